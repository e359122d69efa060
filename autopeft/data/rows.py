"""Rows of a table, checked: texts, what is missing, and how rows and values of others are told."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from autopeft.data.cells import is_missing
from autopeft.data.columns import Columns
from autopeft.data.files.contents import storable
from autopeft.data.store import Column
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_LONGEST = 60
"""Characters of a name that are shown."""


@dataclass(frozen=True)
class Rows:
    """One split as a task reads it."""

    inputs: Sequence[Hashable] = field(repr=False)
    """What a model sees of each row, raw."""
    targets: Column = field(repr=False)
    """What is to be learned of each."""

    def __len__(self) -> int:
        return len(self.inputs)

    def taken(self, rows: np.ndarray) -> "Rows":
        """These rows."""
        return Rows(tuple(self.inputs[row] for row in rows), self.targets.taken(rows))

    def add_to(self, digest: "hashlib._Hash") -> None:
        """Adds all of them to a hash."""
        digest.update(self.targets.values.tobytes())
        for each in self.inputs:
            parts = each if isinstance(each, tuple) else (each,)
            digest.update(b"\0".join(p if isinstance(p, bytes) else str(p).encode() for p in parts) + b"\1")


def require_columns(frame: pd.DataFrame, columns: Columns, split: str) -> None:
    """Raises AutopeftError for a split that has not each of the columns once."""
    held = list(frame.columns)
    for column in (column for each in columns.values() for column in each):
        if held.count(column) != 1:
            count = "no column" if column not in held else f"{held.count(column)} columns"
            raise AutopeftError(f"the {split} split has {count} '{column}'; it has {', '.join(map(str, held))}.")


def has_columns(frame: pd.DataFrame, columns: Columns) -> bool:
    """Whether it has each of the columns once."""
    held = list(frame.columns)
    return all(held.count(column) == 1 for each in columns.values() for column in each)


def texts(frame: pd.DataFrame, columns: Sequence[str], split: str) -> tuple[tuple[str, ...], ...]:
    """The texts of every row; of a pair one may be missing, which is then empty. Raises AutopeftError."""
    for column in columns:
        for row, value in enumerate(frame[column], 1):
            if not isinstance(value, str) and not is_missing(value):
                raise AutopeftError(f"column '{column}' is no text: row {row} of the {split} split has {brief(value)}.")
    filled = [[storable(value) if isinstance(value, str) else "" for value in frame[column]] for column in columns]
    found = tuple(zip(*filled, strict=True))
    missing = [row for row, each in enumerate(found, 1) if not any(map(str.strip, each))]
    if missing:
        named = " and ".join(f"'{column}'" for column in columns)
        raise AutopeftError(
            f"column {named} has no text in {some_rows(missing, len(found), split)}; fill them in or leave those rows "
            "out."
        )
    return found


def with_texts(frame: pd.DataFrame, columns: Sequence[str]) -> "pd.Series[bool]":
    """Which rows `texts` would take."""
    some = frame[list(columns)]
    valid = some.map(lambda value: isinstance(value, str) or is_missing(value)).all(axis=1)
    return valid & some.map(lambda value: isinstance(value, str) and bool(value.strip())).any(axis=1)


def is_single(value: object) -> bool:
    """Whether a cell holds one value that can be read."""
    return bool(pd.api.types.is_scalar(value)) and not isinstance(value, bytes)


def some_rows(some: Sequence[int], rows: int, split: str) -> str:
    """`3 of 80 rows of the train split, the first is row 7`."""
    return f"{len(some):,} of {rows:,} rows of the {split} split, the first is row {some[0]}"


def short(name: str) -> str:
    """A name as it is shown: on one line, and not a whole text."""
    return cut(" ".join(name[: 2 * _LONGEST].split()))


def cut(name: str) -> str:
    """The beginning of a long name."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def overlaps(splits: Mapping[str, Rows], noun: str, target: str) -> list[str]:
    """Notes on rows that stand in two splits, which makes a score of the later one too good, or cannot be learned;
    `noun` and `target` are what people call a row, and what is to be learned of it.
    """
    notes = []
    targets = {
        name: dict(zip(split.inputs, (_plain(split.targets[row]) for row in range(len(split))), strict=True))
        for name, split in splits.items()
    }
    for first, second in combinations(targets, 2):
        if shared := targets[first].keys() & targets[second].keys():
            other = sum(targets[first][each] != targets[second][each] for each in shared)
            contrary = f", of which {other:,} with another {target}" if other else ""
            names = (name.replace("train", "training") for name in (first, second))
            notes.append(f"{noun}s both in {' and in '.join(names)}: {len(shared):,}{contrary}")
    return notes


def _plain(target: Any) -> Any:
    return target.tolist()
