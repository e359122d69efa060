"""The contract of a task: its head, its loss, its metric, and the head that a linear probe gives.

A task is one file in this folder that defines a subclass of Task with a `name`; `task_named` finds it there.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

import autopeft.tasks
from autopeft.errors import unknown


class Task(ABC):
    """One type of task, for one set of labels."""

    name: ClassVar[str]

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)

    @abstractmethod
    def new_head(self, width: int) -> nn.Module:
        """A head for pooled features of this width, initialised at random."""

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean training loss of a batch."""

    @abstractmethod
    def metric(self, logits: Tensor, labels: Tensor) -> float:
        """What is to be maximised, between 0 and 1."""

    @abstractmethod
    def right(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(rows,) bool: which rows are answered rightly, so that two models can be compared row by row."""

    @abstractmethod
    def majority(self, train: np.ndarray, validation: np.ndarray) -> float:
        """The metric on validation labels of the best constant answer to the training labels."""

    @abstractmethod
    def fit_head(self, head: nn.Module, features: np.ndarray, labels: np.ndarray) -> None:
        """Sets the head to a linear probe: the best linear map from frozen features (rows, width) to labels."""


def task_named(name: str, labels: Sequence[str]) -> Task:
    """The task of this name. Raises AutopeftError."""
    kinds: dict[str, type[Task]] = {}
    for module in pkgutil.iter_modules(autopeft.tasks.__path__):
        for value in vars(importlib.import_module(f"autopeft.tasks.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Task) and value is not Task:
                kinds[value.name] = value
    if name not in kinds:
        raise unknown("task", name, kinds)
    return kinds[name](labels)
