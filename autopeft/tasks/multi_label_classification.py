"""Multi-label classification: any number of classes for single texts or pairs, also none.

They are read as `data/several.py` reads names: of lists, of texts, or of one column, or one place, for each class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from autopeft.data.cells import holds_list, is_missing
from autopeft.data.columns import CATEGORIES, LABEL_SETS, TOKENS, Columns, Role, guess_columns
from autopeft.data.rows import Rows, short
from autopeft.data.several import Flags, names_in_rows, readable_names
from autopeft.data.store import LABELS, Column, Dataset
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.space.candidate import Training
from autopeft.tasks.classes import FEW, are_quantities, in_order, indices_of, name_of, notes_on, shares
from autopeft.tasks.heads import Batch, Head, MultiLabelHead
from autopeft.tasks.linear_probe import fit_each
from autopeft.tasks.metrics import F1_MACRO_OF_ALL, F1_MICRO, SUBSET_ACCURACY
from autopeft.tasks.texts import ROLE, TextTask

_LOOKED_AT = 100
"""Rows that tell whether lists are of names."""


@dataclass(frozen=True)
class MultiLabelClassification(TextTask):
    """Any number of classes for each text."""

    classes: tuple[str, ...]
    """In the order of the outputs."""

    name: ClassVar = "multi-label-classification"
    aliases: ClassVar = ("multi_label_classification", "multilabel-classification")
    roles: ClassVar = {"labels": Role(CATEGORIES, LABEL_SETS, most=1000), "text": ROLE}
    metrics: ClassVar = (F1_MICRO, F1_MACRO_OF_ALL, SUBSET_ACCURACY)
    constant: ClassVar = "most frequent set"
    target: ClassVar = "set of labels"
    problem_type: ClassVar = "multi_label_classification"

    @classmethod
    def fits(cls, frame: pd.DataFrame, given: Columns) -> bool:
        """Whether lists of names stand beside a text, and not beside tokens, whose tags they would be."""
        if "labels" in given:
            return given.keys() <= cls.roles.keys()
        if any(str(name).lower() in TOKENS for name in frame.columns):
            return False
        try:
            (labels,) = guess_columns(frame, cls.roles, given)["labels"]
        except AutopeftError:
            return False
        cells = [cell for cell in frame[labels] if not is_missing(cell)]
        some = cells[:_LOOKED_AT]
        return all(map(holds_list, cells)) and any(readable_names([cell], [labels], name_of) for cell in some)

    @classmethod
    def sized(cls, labels: int) -> Self:
        return cls(("text",), tuple(map(str, range(labels))))

    @classmethod
    def understand(cls, frame: pd.DataFrame, columns: Columns) -> tuple[Self, Sequence[str]]:
        labels, sets = columns["labels"], names_in_rows(frame, columns["labels"], "train", name_of)
        names = [name for each in sets for name in each]
        flags = next((cell for cell in frame[labels[0]] if isinstance(cell, Flags)), ())
        classes = labels if len(labels) > 1 else tuple(map(str, range(len(flags)))) or in_order(names)
        what = f"column '{labels[0]}'" if len(labels) == 1 else f"columns '{labels[0]}' to '{labels[-1]}'"
        if len({*map(frozenset, sets)}) == 1:
            same = brief(sorted(sets[0])) if names else "no class"
            raise AutopeftError(f"{what}: every row has {same}; there is nothing to learn.")
        if are_quantities(classes):
            raise AutopeftError(
                f"{what}: {len(classes):,} different numbers are regression; give --task text-regression."
            )
        if len(classes) > max(FEW, len(sets) / 2):
            raise AutopeftError(
                f"{what}: {len(classes):,} different names in {len(sets):,} rows, such as '{short(classes[0])}', are "
                "too many to be classes; if they are several in one cell, say what stands between them by --separator."
            )
        notes = [*notes_on(names, classes)]
        if all(len(each) == 1 for each in sets):
            notes.append("every row has one class; --task text-classification answers with one for each")
        if len(labels) == 1 and (joined := [name for name in classes if "," in name]):
            notes.append(f"'{short(joined[0])}' is one class; if it is several, give --separator ,")
        if flags:
            notes.append(
                f"{what} holds {len(flags)} numbers for each row, 0 or 1: the classes are called 0 to {len(flags) - 1} "
                "by their places; give one column of 0 and 1 for each class, called like it, to name them"
            )
        if unseen := [name for name in classes if name not in {*names}]:
            notes.append(f"classes that no training row has: {', '.join(map(short, unseen))}")
        return cls(columns["text"], tuple(classes)), notes

    def targets(self, frame: pd.DataFrame, columns: Columns, split: str) -> np.ndarray:
        """(rows, classes) 0 or 1."""
        sets = names_in_rows(frame, columns["labels"], split, name_of)
        known = {*self.classes}
        # Of each row one that is unknown, if there is one.
        indices_of([min(each - known, default=self.classes[0]) for each in sets], self.classes, split)
        return np.array([[name in each for name in self.classes] for each in sets], dtype=np.uint8)

    def known(self, frame: pd.DataFrame, columns: Columns) -> "pd.Series[bool]":
        rows = zip(*(frame[column] for column in columns["labels"]), strict=True)
        found = (readable_names(cells, columns["labels"], name_of) for cells in rows)
        return pd.Series([names is not None and names <= {*self.classes} for names in found], frame.index, dtype=bool)

    def described(self, train: Rows) -> Sequence[str]:
        sizes = train.targets.values.sum(1, dtype=np.int64)
        return (
            shares(train.targets.values.sum(0, dtype=np.int64), self.classes, of=len(train)),
            f"classes of a row: {sizes.mean():.2g} on average, at most {sizes.max()}; none: {(sizes == 0).mean():.0%}",
        )

    def strata(self, targets: Column) -> np.ndarray:
        """The rarest class of each row; one more for rows of none."""
        counts = targets.values.sum(0, dtype=np.int64)
        rarest: np.ndarray = np.where(targets.values > 0, counts, len(targets) + 1).argmin(1)
        return np.where(targets.values.any(1), rarest, len(counts))

    def shapes(self, length: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        return {**super().shapes(length), LABELS: (torch.uint8, (len(self.classes),))}

    def new_head(self, width: int, training: Training) -> MultiLabelHead:
        return MultiLabelHead(width, len(self.classes), training.pooling)

    def best_constant(self, train: Dataset) -> Tensor:
        sets, counts = np.unique(train.targets.values, axis=0, return_counts=True)
        return torch.from_numpy(2.0 * sets[counts.argmax()] - 1).float()

    def fit(self, head: Head, features: np.ndarray, targets: np.ndarray) -> None:
        assert isinstance(head, MultiLabelHead)
        fit_each(head, features, targets)

    def answers(self, output: Tensor, inputs: Sequence[Any]) -> Sequence[tuple[str, ...]]:  # noqa: ARG002
        """The classes of each text, in the order of all classes."""
        return [
            tuple(name for name, has in zip(self.classes, row, strict=True) if has) for row in (output > 0).tolist()
        ]

    def compared(self, output: Tensor, batch: Batch) -> tuple[Sequence[tuple[str, ...]], Sequence[tuple[str, ...]]]:
        """Tuples of classes."""
        return self.answers(batch[LABELS], ()), self.answers(output, ())

    def scores(self, output: Tensor) -> Sequence[dict[str, float]]:
        """The probability of every class; they do not add up to 1."""
        return [dict(zip(self.classes, each, strict=True)) for each in self.probabilities(output).tolist()]

    def probabilities(self, output: Tensor) -> Tensor:
        return output.sigmoid()
