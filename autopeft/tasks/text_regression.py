"""Text regression: a number for single texts or pairs, such as how similar they are.

Learned is the number less the mean of the training rows, in units of their standard deviation, so that learning rates
mean the same whatever the unit; errors and answers are in the data's own unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from autopeft.data.cells import is_blank
from autopeft.data.columns import CATEGORY, LABELS, NUMBER, NUMBERS, Columns, Role, guess_columns
from autopeft.data.numbers import number_in
from autopeft.data.rows import Rows, some_rows
from autopeft.data.store import LABELS as TARGETS
from autopeft.data.store import Dataset
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.space.candidate import Training
from autopeft.tasks.classes import FEW, are_quantities, name_of
from autopeft.tasks.heads import Batch, Head, RegressionHead
from autopeft.tasks.linear_probe import fit_numbers
from autopeft.tasks.metrics import MAE, PEARSON, R2, RMSE, SPEARMAN
from autopeft.tasks.texts import ROLE, TextTask

_FARTHEST = 1e15
"""Deviations from the mean whose squares can still be summed in single precision."""

_CLOSEST = 1e-5
"""Deviations between the quartiles, below which single precision hardly tells numbers apart."""


@dataclass(frozen=True)
class TextRegression(TextTask):
    """A number for each text."""

    mean: float
    """Of the training rows."""
    scale: float
    """Their standard deviation."""

    name: ClassVar = "text-regression"
    aliases: ClassVar = ("regression",)
    roles: ClassVar = {"label": Role(NUMBER, NUMBERS), "text": ROLE}
    metrics: ClassVar = (PEARSON, RMSE, MAE, R2, SPEARMAN)
    constant: ClassVar = "mean"
    target: ClassVar = "number"
    problem_type: ClassVar = "regression"
    label_shape: ClassVar = (torch.float32, (1,))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (np.isfinite(self.mean) and np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"mean and scale are {brief((self.mean, self.scale))}")

    @classmethod
    def fits(cls, frame: pd.DataFrame, given: Columns) -> bool:
        """Whether the column of classes holds many numbers with fractions, or where there is none, that of numbers."""
        for role in (Role(CATEGORY, LABELS), cls.roles["label"]):
            try:
                (label,) = guess_columns(frame, {**cls.roles, "label": role}, given)["label"]
            except AutopeftError:
                continue
            return are_quantities([name for name in {name_of(value) for value in frame[label]} if name])
        return False

    @classmethod
    def sized(cls, labels: int) -> Self:  # noqa: ARG003
        return cls(("text",), 0.0, 1.0)

    @property
    def unit(self) -> tuple[float, float]:
        return self.scale, self.mean

    @property
    def identity(self) -> str:
        return f"{self.name} {self.mean!r} {self.scale!r}"

    @classmethod
    def understand(cls, frame: pd.DataFrame, columns: Columns) -> tuple[Self, Sequence[str]]:
        (label,) = columns["label"]
        numbers = _numbers(frame, label, "train")
        if numbers.min() == numbers.max():
            raise AutopeftError(f"column '{label}' holds {numbers[0]:g} in every row; there is nothing to learn.")
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            mean, scale = float(numbers.mean()), float(numbers.std())
        if not (np.isfinite(mean) and np.isfinite(scale) and scale > 0):
            raise AutopeftError(
                f"column '{label}' holds numbers from {numbers.min():g} to {numbers.max():g}, too far apart or too "
                "close to be learned; give them in another unit."
            )
        low, middle, high = np.quantile(numbers, (0.25, 0.5, 0.75))
        if 0 < (high - low) / scale < _CLOSEST:
            row = int(np.abs(numbers - middle).argmax())
            raise AutopeftError(
                f"row {row + 1} of the train split has {numbers[row]:g} in column '{label}', so far from others that "
                f"these, half of them from {low:.4g} to {high:.4g}, cannot be told apart; correct it, or leave it out."
            )
        few = len(np.unique(numbers))
        note = f"different numbers: {few}; as classes they are --task text-classification"
        return cls(columns["text"], mean, scale), [note] if few <= FEW else []

    def targets(self, frame: pd.DataFrame, columns: Columns, split: str) -> np.ndarray:
        (label,) = columns["label"]
        standardised = self._standardised(_numbers(frame, label, split))
        if (far := np.flatnonzero(np.abs(standardised) > _FARTHEST)).size:
            row, usual = int(far[0]), f"mean {self.mean:.4g}, standard deviation {self.scale:.4g}"
            raise AutopeftError(
                f"row {row + 1} of the {split} split has {brief(frame[label].iloc[row])} in column '{label}', too far "
                f"from the training rows ({usual}) to be judged."
            )
        return standardised.astype(np.float32)[:, None]

    def known(self, frame: pd.DataFrame, columns: Columns) -> "pd.Series[bool]":
        numbers = pd.Series([number_in(cell) for cell in frame[columns["label"][0]]], frame.index, dtype=np.float64)
        return pd.Series(np.abs(self._standardised(numbers.to_numpy())) <= _FARTHEST, frame.index)

    def _standardised(self, numbers: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            found: np.ndarray = (numbers - self.mean) / self.scale
        return found

    def described(self, train: Rows) -> Sequence[str]:
        # Rounded, because targets are held in single precision.
        standardised = np.array([train.targets.values.min(), train.targets.values.max()], dtype=np.float64)
        least, most = np.round(standardised + self.mean / self.scale, 5) * self.scale + 0.0
        return (f"numbers from {least:.4g} to {most:.4g}: mean {self.mean:.4g}, standard deviation {self.scale:.4g}",)

    def new_head(self, width: int, training: Training) -> RegressionHead:
        return RegressionHead(width, self.scale, training.pooling)

    def best_constant(self, train: Dataset) -> Tensor:
        return torch.tensor(train.targets.values.mean(0))

    def fit(self, head: Head, features: np.ndarray, targets: np.ndarray) -> None:
        assert isinstance(head, RegressionHead)
        fit_numbers(head, features, targets)

    def answers(self, output: Tensor, inputs: Sequence[Any]) -> Sequence[float]:  # noqa: ARG002
        """In the unit of the training data."""
        return [each * self.scale + self.mean for each in output[:, 0].tolist()]

    def compared(self, output: Tensor, batch: Batch) -> tuple[Sequence[float], Sequence[float]]:
        """Numbers."""
        return self.answers(batch[TARGETS], ()), self.answers(output, ())


def _numbers(frame: pd.DataFrame, column: str, split: str) -> np.ndarray:
    """(rows,) the numbers of a column. Raises AutopeftError for a row that has none."""
    cells = list(frame[column])
    missing = [row for row, cell in enumerate(cells, 1) if is_blank(cell)]
    if missing:
        raise AutopeftError(
            f"column '{column}' has no number in {some_rows(missing, len(cells), split)}; fill them in or leave those "
            "rows out."
        )
    found = [number_in(cell) for cell in cells]
    if None in found:
        row = found.index(None)
        advice = "numbers are finite, and written as in 1234.5, without units or separators of thousands"
        if not any(map(str.isdigit, brief(cells[row]))) and not any(number is not None for number in found):
            advice = "give --task text-classification where these are classes"
        raise AutopeftError(
            f"column '{column}' holds no number: row {row + 1} of the {split} split has {brief(cells[row])}; {advice}."
        )
    return np.array(found, dtype=np.float64)
