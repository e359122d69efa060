"""One of several classes for each row, whatever a row is."""

from abc import ABC
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from autopeft.data.columns import Columns
from autopeft.data.rows import Rows
from autopeft.data.store import LABELS, Column, Dataset
from autopeft.space.candidate import Training
from autopeft.tasks.base import Task
from autopeft.tasks.classes import classes_of, indices_of, name_of, names_of, notes_on, shares
from autopeft.tasks.heads import Batch, ClassificationHead, Head
from autopeft.tasks.linear_probe import fit_classes


class OneClass(Task, ABC):
    """What is learned where every row has a label."""

    classes: tuple[str, ...]
    """In the order of the outputs."""

    constant: ClassVar = "majority class"
    problem_type: ClassVar = "single_label_classification"

    @staticmethod
    def named(frame: pd.DataFrame, columns: Columns) -> tuple[tuple[str, ...], Sequence[str]]:
        """The classes of training data, and notes on them. Raises AutopeftError."""
        (label,) = columns["label"]
        names = names_of(frame, label, "train")
        classes = classes_of(names, label)
        return classes, notes_on(names, classes)

    def targets(self, frame: pd.DataFrame, columns: Columns, split: str) -> np.ndarray:
        """(rows,) the classes' indices. Raises AutopeftError."""
        return indices_of(names_of(frame, columns["label"][0], split), self.classes, split)

    def known(self, frame: pd.DataFrame, columns: Columns) -> "pd.Series[bool]":
        """Which rows have one of the classes."""
        return frame[columns["label"][0]].map(name_of).isin(self.classes)

    def described(self, train: Rows) -> Sequence[str]:
        return (shares(np.bincount(train.targets.values, minlength=len(self.classes)), self.classes),)

    def strata(self, targets: Column) -> np.ndarray:
        return targets.values

    def new_head(self, width: int, training: Training) -> ClassificationHead:
        return ClassificationHead(width, len(self.classes), training.pooling)

    def best_constant(self, train: Dataset) -> Tensor:
        majority = np.bincount(train.targets.values, minlength=len(self.classes)).argmax()
        return one_hot(torch.tensor(majority), len(self.classes)).float()

    def fit(self, head: Head, features: np.ndarray, targets: np.ndarray) -> None:
        assert isinstance(head, ClassificationHead)
        fit_classes(head, features, targets)

    def answers(self, output: Tensor, inputs: Sequence[Any]) -> Sequence[str]:  # noqa: ARG002
        return [self.classes[each] for each in output.argmax(-1).tolist()]

    def compared(self, output: Tensor, batch: Batch) -> tuple[Sequence[str], Sequence[str]]:
        """Classes."""
        return [self.classes[each] for each in batch[LABELS].tolist()], self.answers(output, ())

    def scores(self, output: Tensor) -> Sequence[dict[str, float]]:
        """The probability of every class."""
        return [dict(zip(self.classes, each, strict=True)) for each in self.probabilities(output).tolist()]

    def probabilities(self, output: Tensor) -> Tensor:
        return output.softmax(-1)
