"""What was made of a split's rows: made once, cached by content, memory-mapped by every worker.

A column is one name of a batch, for all rows of a split: fixed (an array with one entry for each row) or ragged (the
rows end to end, with the offset of each). Padding is data beside the column, so one `batch` serves every task. Workers
need neither the raw rows nor a tokenizer.

Batches are padded on the right, whatever a tokenizer prefers: where positions are counted from the first token on, a
text after padding would be another text.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from autopeft.files import beside

MULTIPLE = 8
"""Ragged columns are padded to a multiple of this."""
LABELS, MASK, PIXELS = "labels", "attention_mask", "pixels"
"""Names in a batch: what is to be learned, which places of ragged columns hold something, and images as bytes."""
FORMAT = 2
"""Of the files; another one is made anew."""
_COLUMNS = "columns.json"
_PATCH = 16 * 16
"""Pixels of which most models of images make one state."""


@dataclass(frozen=True)
class Column:
    """One name of a batch, for all rows of a split."""

    values: np.ndarray
    """(rows, …), or where ragged (entries of all rows, …)."""
    offsets: np.ndarray | None = None
    """(rows + 1,) of a ragged column: row i is values[offsets[i]:offsets[i + 1]]."""
    padding: int = 0
    """What shorter rows of a ragged column are filled up with."""

    @classmethod
    def ragged(cls, rows: Sequence[Any], dtype: Any, padding: int = 0) -> Self:
        """A ragged column of rows of different lengths."""
        arrays = [np.asarray(row, dtype=dtype) for row in rows]
        values = np.concatenate(arrays) if arrays else np.empty(0, dtype)
        return cls(values, np.concatenate([[0], np.cumsum([len(row) for row in arrays], dtype=np.int64)]), padding)

    def __len__(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1

    def __getitem__(self, row: int) -> Any:
        if self.offsets is None:
            return self.values[row]
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) how many entries each row has; 1 where none has more than one."""
        return np.ones(len(self.values), dtype=np.int64) if self.offsets is None else np.diff(self.offsets)

    def taken(self, rows: np.ndarray) -> "Column":
        """The column of these rows."""
        if self.offsets is None:
            return Column(self.values[rows])
        return Column.ragged([self[row] for row in rows], self.values.dtype, self.padding)

    def batch(self, rows: Sequence[int] | np.ndarray, width: int) -> Tensor:
        """(rows, …), or where ragged (rows, width): whole numbers in int64 (bytes as they are), others in fp32."""
        dtype = self.values.dtype
        kind = dtype if dtype == np.uint8 else np.int64 if dtype.kind in "iub" else np.float32
        if self.offsets is None:
            return torch.from_numpy(np.asarray(self.values[rows], dtype=kind))
        whole = np.full((len(rows), width), self.padding, dtype=kind)
        for each, row in zip(whole, rows, strict=True):
            held = self[row]
            each[: len(held)] = held
        return torch.from_numpy(whole)


@dataclass(frozen=True)
class Dataset:
    """One split, as columns of as many rows."""

    columns: Mapping[str, Column]
    longest: int
    """No batch is padded beyond this many entries."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) entries of the longest ragged column; of images about as many as a model makes patches of them; else
        1.
        """
        if ragged := [column.lengths for column in self.columns.values() if column.offsets is not None]:
            longest: np.ndarray = np.maximum.reduce(ragged)
            return longest
        patches = self.columns[PIXELS].values[0, ..., 0].size // _PATCH if PIXELS in self.columns and len(self) else 1
        return np.full(len(self), max(patches, 1), dtype=np.int64)

    @property
    def targets(self) -> Column:
        """What is to be learned."""
        return self.columns[LABELS]

    @property
    def digest(self) -> str:
        """Tells two readings of the same rows apart, by ragged columns such as tokens: tokenizers change, images do
        not.
        """
        found = hashlib.sha256()
        for name, column in sorted(self.columns.items()):
            if column.offsets is not None:
                found.update(name.encode() + column.offsets.tobytes())
                found.update(column.values.tobytes())
        return found.hexdigest()

    def taken(self, rows: np.ndarray) -> "Dataset":
        """These rows."""
        return Dataset({name: column.taken(rows) for name, column in self.columns.items()}, self.longest)

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The columns of these rows; ragged ones padded to a multiple of 8, with a mask of what of the first of them is
        no padding.
        """
        tensors: dict[str, Tensor] = {}
        mask: dict[str, Tensor] = {}
        for name, column in self.columns.items():
            width = 0
            if column.offsets is not None:
                lengths = np.array([len(column[row]) for row in rows])
                longest = int(lengths.max())
                width = min(padded(longest), max(self.longest, longest))
                filled = np.arange(width) < lengths[:, None]
                mask.setdefault(MASK, torch.from_numpy(filled.astype(np.int64)))
            tensors[name] = column.batch(rows, width)
        return tensors | mask


def padded(length: int) -> int:
    """As long as a row of this length is in a batch."""
    return -(-length // MULTIPLE) * MULTIPLE


def kept(folder: Path, make: Callable[[], Mapping[str, Dataset]]) -> Path:
    """The folder, where splits are that `make` made, by their names; it appears whole or not at all, and is made once.

    Its name must tell contents apart.
    """
    if folder.exists():
        return folder
    temporary = beside(folder)
    try:
        for split, data in make().items():
            _write(temporary / split, data)
        temporary.rename(folder)
    except OSError:
        # Somebody else made it meanwhile.
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def open_split(folder: Path, name: str) -> Dataset:
    """A split that was `kept`; its values are memory-mapped."""
    plain = json.loads((folder / name / _COLUMNS).read_text(encoding="utf-8"))
    columns = {}
    for column, padding in plain["columns"].items():
        offsets = folder / name / f"{column}.offsets.npy"
        values = np.load(folder / name / f"{column}.npy", mmap_mode="r")
        columns[column] = Column(values, np.load(offsets) if offsets.exists() else None, padding)
    return Dataset(columns, plain["longest"])


def _write(folder: Path, data: Dataset) -> None:
    folder.mkdir(parents=True)
    for name, column in data.columns.items():
        np.save(folder / f"{name}.npy", column.values)
        if column.offsets is not None:
            np.save(folder / f"{name}.offsets.npy", column.offsets)
    plain = {"longest": data.longest, "columns": {name: column.padding for name, column in data.columns.items()}}
    (folder / _COLUMNS).write_text(json.dumps(plain), encoding="utf-8")
