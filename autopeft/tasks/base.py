"""The contract of a task: what is learned from a dataset, and everything that depends on it.

A task is one file that defines a frozen dataclass with a `name`; `named.py` finds it in this folder, or where its user
says that it is. It is plain values (classes, ranges), pickled to workers and written beside trained weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self, get_type_hints

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from autopeft.backbone.inputs import named, reads
from autopeft.backbone.load import Backbone, Skeleton
from autopeft.backbone.pixels import Pixels
from autopeft.data.columns import Columns, Roles, guess_columns
from autopeft.data.rows import Rows
from autopeft.data.store import LABELS, Column, Dataset
from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief
from autopeft.plan import COMPLETION
from autopeft.space.candidate import Training
from autopeft.space.parameters import Parameter
from autopeft.tasks.heads import Batch, Head
from autopeft.tasks.metrics import Array, Metric
from autopeft.tasks.own import is_of_user, shown

CODE = "code"
"""Under which the plain values of a task of one's own say where its code is."""


@dataclass(frozen=True)
class InPrompt:
    """Rows with examples in their prompts."""

    places: np.ndarray
    """Which of the rows could be asked so."""
    data: Dataset
    """These rows, as the model reads them."""
    more: float
    """Tokens that the examples add to one of them, on average."""


@dataclass(frozen=True)
class Task(ABC):
    """What is learned from one dataset."""

    name: ClassVar[str]
    roles: ClassVar[Roles]
    """The columns that it needs, by role."""
    metrics: ClassVar[tuple[Metric, ...]]
    """The first is the default, as a rule."""
    constant: ClassVar[str]
    """What people call the best constant answer."""
    written: ClassVar[tuple[Metric, ...]] = ()
    """Further ones, of texts that a model writes."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """What other tools call it."""
    noun: ClassVar[str] = "text"
    """What people call one row."""
    target: ClassVar[str] = "label"
    """What people call what is to be learned of it."""
    reads: ClassVar[str] = "input_ids"
    """The main input of the models that it is learned with."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Capabilities that it asks of methods, such as `causal`."""
    settings: ClassVar[Mapping[str, Parameter | None]] = dict.fromkeys(("pooling", "head_start", "head_learning_rate"))
    """Those of a training's settings `OF_TASKS` that it has, and what they may be where a space does not say."""
    pipeline: ClassVar[str] = ""
    """The hub's tag and transformers' pipeline for it; empty where they have none."""
    auto_class: ClassVar[str] = ""
    """transformers' class of models with a head for it; empty where there is none."""
    peft_type: ClassVar[str] = "FEATURE_EXTRACTION"
    """peft's word for the models that its methods go on: bare ones, or those of `auto_class`, whose head is theirs."""
    problem_type: ClassVar[str | None] = None
    """What such a class calls it, where it has several losses."""
    space: ClassVar[str] = "default"
    """What is searched where nobody names a space."""
    causal: ClassVar[bool] = False
    """Whether its head is a language model's own output embedding, and has no weights of its own."""
    longest: ClassVar[int] = 128
    """Tokens of a text at most, where nobody says how many."""

    @classmethod
    def fits(cls, frame: pd.DataFrame, given: Columns) -> bool:  # noqa: ARG003
        """Whether data is surely meant for this task."""
        return False

    @classmethod
    def columns(cls, frame: pd.DataFrame, given: Columns) -> Columns:
        """Which columns serve its roles, what is to be learned first: those given, and others guessed.

        Raises AutopeftError.
        """
        return guess_columns(frame, cls.roles, given)

    @classmethod
    @abstractmethod
    def sized(cls, labels: int) -> Self:
        """The task with so many things to tell apart, for costs without data."""

    def on(self, backbone: Skeleton) -> Self:
        """The task as this model reads its rows. Raises AutopeftError for a model that reads something else."""
        if reads(backbone.model) != self.reads:
            raise AutopeftError(
                f"'{backbone.name}' reads {named(backbone.model)}: {self.name} needs a model of {self.noun}s."
            )
        return self

    def learning(self, loss_on: str) -> Self:
        """The same, learning completions, or all that is read. Raises AutopeftError where nobody may choose."""
        if loss_on != COMPLETION:
            raise AutopeftError(
                f"loss_on is {loss_on}, and {self.name} learns a {self.target} for each {self.noun} and nothing else; "
                "leave it out."
            )
        return self

    @property
    def identity(self) -> str:
        """Tells what is learned from what else might be of the same rows; part of their hash."""
        return "\0".join(getattr(self, "classes", (self.name,)))

    @property
    def prompted(self) -> bool:
        """Whether a model is asked by a prompt, in which examples may stand."""
        return False

    @property
    def why_not_written(self) -> str:
        """Why a model cannot be judged by what it writes; empty where it can be."""
        return "it writes no texts"

    @property
    def in_turns(self) -> bool:
        """Whether a model is asked in turns of a conversation."""
        return False

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the outputs are called, in their order; empty where they have no names."""
        return tuple(getattr(self, "classes", ()))

    @property
    def unit(self) -> tuple[float, float]:
        """Scale and offset that turn the head's output into answers, where these are numbers."""
        return 1.0, 0.0

    @property
    def asks(self) -> tuple[str, str]:
        """One input in Python, as `asked` takes it, and as transformers' pipeline does."""
        return '"…"', '"…"'

    @classmethod
    @abstractmethod
    def understand(cls, frame: pd.DataFrame, columns: Columns) -> tuple[Self, Sequence[str]]:
        """The task that training data sets, and notes for whoever gave them. Raises AutopeftError."""

    @abstractmethod
    def rows(self, frame: pd.DataFrame, columns: Columns, split: str) -> Rows:
        """A split, every row of it complete. Raises AutopeftError that names the row which is not."""

    @abstractmethod
    def complete(self, frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
        """The rows that `rows` would take."""

    @abstractmethod
    def described(self, train: Rows) -> Sequence[str]:
        """Short lines that show what is to be learned."""

    def strata(self, targets: Column) -> np.ndarray | None:  # noqa: ARG002
        """(rows,) integers whose shares a validation split keeps; None where there are none."""
        return None

    @abstractmethod
    def encoded(self, inputs: Sequence[Any], backbone: Backbone, max_length: int) -> Mapping[str, Column]:
        """What the model reads of raw inputs, by the names of its arguments. Raises AutopeftError."""

    @abstractmethod
    def key(self, backbone: Backbone, max_length: int) -> str:
        """Tells two ways of `encoded` apart."""

    def encode(self, rows: Rows, backbone: Backbone, max_length: int) -> Dataset:
        """A split as the model reads it, with what is to be learned."""
        return Dataset({**self.encoded(rows.inputs, backbone, max_length), LABELS: rows.targets}, max_length)

    def learned(self, split: Dataset) -> np.ndarray | None:  # noqa: ARG002
        """(rows,) how many positions of each the head looks at, where these may be fewer than it has."""
        return None

    def lost(self, rows: Rows, data: Dataset) -> str:  # noqa: ARG002
        """A note on what is to be learned of a split and did not get into what the model reads; empty where all did."""
        return ""

    def shown(self, rows: Rows, data: Dataset, backbone: Backbone) -> Sequence[str]:  # noqa: ARG002
        """Short lines that show what the model gets to read of training rows."""
        return ()

    def recalled(
        self,
        metric: Metric,  # noqa: ARG002
        train: Dataset,  # noqa: ARG002
        validation: Dataset,  # noqa: ARG002
        alone: Array,  # noqa: ARG002
    ) -> Array | None:
        """What a metric needs of validation rows that are answered as often as answers occurred in training; `alone`
        is what it needs of what the backbone answers by itself. None where nothing can be said of that.
        """
        return None

    def kept(self, rows: Rows, backbone: Backbone, max_length: int) -> np.ndarray:  # noqa: ARG002
        """Which rows of a split `encode` keeps, in their order."""
        return np.arange(len(rows))

    def in_prompt(
        self,
        examples: Sequence[Any],
        inputs: Sequence[Any],
        read: Dataset,
        backbone: Backbone,
    ) -> InPrompt:
        """Inputs, which are `read` already, with examples and their answers before each, as far as the model can read
        both. Of tasks that are `prompted`.
        """
        raise NotImplementedError(f"{self.name} has no prompts")

    @abstractmethod
    def shapes(self, length: int) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        """The tensors of a batch of one, for costs that are predicted: without the rows, by name."""

    def equip(self, processor: Any) -> None:  # noqa: B027 - most need nothing
        """Gives a processor that goes elsewhere what others need to make inputs as the training did."""

    def seen(self, splits: Sequence[Dataset]) -> Self:  # noqa: ARG002
        """The task that knows rows as the model reads them; nothing else than costs may depend on it."""
        return self

    def inputs(self, batch: Batch) -> Batch:
        """What the model is called with, by the names of its arguments, of a batch on the device; labels go by
        themselves.
        """
        return batch

    @abstractmethod
    def new_head(self, width: int, training: Training) -> Head:
        """A head for states of this width, initialised at random."""

    @abstractmethod
    def best_constant(self, train: Dataset) -> Tensor:
        """(outputs,) what to put out, if it must be the same for all, after these training rows."""

    @abstractmethod
    def fit(self, head: Head, features: np.ndarray, targets: np.ndarray) -> None:
        """Sets the head to a linear probe: the best linear map from frozen features (items, width) to targets."""

    @abstractmethod
    def samples(self, backbone: Backbone) -> Sequence[Any]:
        """Some inputs, always the same, on which two models can be compared."""

    @abstractmethod
    def asked(self, given: Any) -> tuple[Sequence[Any], bool]:
        """What a person asks a trained model, as inputs, and whether that was a single one. Raises AutopeftError."""

    def parts(self, output: Tensor, batch: Batch, inputs: Sequence[Any]) -> Sequence[Tensor] | Tensor:  # noqa: ARG002
        """What of the head's output, in fp32 on the CPU, belongs to each of the inputs: its rows, as a rule."""
        return output

    @abstractmethod
    def answers(self, output: Any, inputs: Sequence[Any]) -> Sequence[Any]:
        """What a person is told, for each of the inputs, of its part of the output."""

    def prompts(self, inputs: Sequence[Any], backbone: Backbone) -> Sequence[Sequence[int]]:  # noqa: ARG002
        """The tokens of each input that a model goes on with. Raises AutopeftError for a task that writes no texts."""
        raise AutopeftError(f"a model of '{self.name}' answers by `predict`; it writes no texts.")

    def parted(self, ids: np.ndarray, labels: np.ndarray) -> tuple[list[int], list[int]]:
        """What is asked and what is expected of a row, as tokens; of tasks that write texts."""
        raise NotImplementedError(f"{self.name} writes no texts")

    def ends(self, backbone: Backbone) -> frozenset[int]:  # noqa: ARG002
        """Tokens that what is written is over at."""
        return frozenset()

    def probabilities(self, output: Tensor) -> Tensor | None:  # noqa: ARG002
        """Of what each output stands for; None where outputs are no logits."""
        return None

    def scores(self, output: Any) -> Sequence[Any]:  # noqa: ARG002
        """How sure the head is, for each part of its output. Raises AutopeftError where that cannot be told."""
        raise AutopeftError(f"a model of '{self.name}' gives no scores beside its answers.")

    def compared(self, output: Tensor, batch: Batch) -> tuple[Sequence[Any], Sequence[Any]]:  # noqa: ARG002
        """What is expected of each row, and what is answered, in the same terms: what a metric of one's own is called
        with. Raises AutopeftError where the task does not tell.
        """
        raise AutopeftError(f"a task '{self.name}' does not tell what rows expect, so it takes no metric of one's own.")

    @property
    def default_metric(self) -> Metric:
        """The metric that such data asks for."""
        return self.metrics[0]

    @classmethod
    def every_metric(cls) -> tuple[Metric, ...]:
        """All that models may be judged by, the usual ones first."""
        return (*cls.metrics, *cls.written)

    def metric(self, name: str) -> Metric:
        """The metric of this name; the default of `auto`. Raises AutopeftError."""
        every = {metric.name: metric for metric in self.every_metric()}
        found = {"auto": self.default_metric, **every}
        if name not in found:
            raise unknown("metric", name, every)
        return found[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `named.read_task` reads them back. Of a task of one's own they say so."""
        code = {CODE: shown(type(self))} if is_of_user(type(self)) else {}
        return {"name": self.name, **code, **asdict(self)}

    @classmethod
    def unreadable(cls) -> Sequence[str]:
        """Its fields that `from_dict` cannot read, by their types."""
        types = get_type_hints(cls)
        return [each.name for each in fields(cls) if types[each.name] not in _READ]

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The task of values that `to_dict` gave, or a stranger wrote. Raises ValueError or KeyError."""
        types = get_type_hints(cls)
        known = {each.name: types[each.name] for each in fields(cls)}
        if more := plain.keys() - {"name", *known}:
            raise ValueError(f"nothing is known of {brief(min(more))}")
        return cls(**{name: _READ[kind](plain[name]) for name, kind in known.items()})


def _words(plain: Any) -> tuple[str, ...]:
    words = isinstance(plain, list | tuple) and all(isinstance(each, str) for each in plain)
    if not words or not plain or len({*plain}) < len(plain):
        raise ValueError(f"a list of different words is expected, not {brief(plain)}")
    return tuple(plain)


def _number(plain: Any) -> float:
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not np.isfinite(plain):
        raise ValueError(f"a number is expected, not {brief(plain)}")
    return float(plain)


def _numbers(plain: Any) -> tuple[float, ...]:
    if not isinstance(plain, list | tuple):
        raise ValueError(f"a list of numbers is expected, not {brief(plain)}")
    return tuple(map(_number, plain))


def _whole(plain: Any) -> int:
    if isinstance(plain, bool) or not isinstance(plain, int):
        raise ValueError(f"a whole number is expected, not {brief(plain)}")
    return plain


def _word(plain: Any) -> str:
    if not isinstance(plain, str):
        raise ValueError(f"a text is expected, not {brief(plain)}")
    return plain


_READ = {
    tuple[str, ...]: _words,
    tuple[float, ...]: _numbers,
    float: _number,
    int: _whole,
    str: _word,
    Pixels: Pixels.from_dict,
}
"""How a field of a task is read, by its type."""
