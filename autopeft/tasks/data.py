"""From a data argument to texts and integer labels, checked and described. The test split is carried along, never looked at."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from autopeft.errors import AutopeftError, unknown
from autopeft.tasks.columns import Columns, guess_columns
from autopeft.tasks.reading import read_splits
from autopeft.tasks.splits import split_off

TASKS = ("text-classification",)
_MISSING = {"", "nan", "<na>", "none"}


@dataclass(frozen=True)
class Split:
    """Texts, or pairs of texts, and the index of each one's label."""

    texts: tuple[tuple[str, ...], ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class TaskData:
    """A task's data as understood."""

    task: str
    columns: Columns
    labels: tuple[str, ...]
    """The classes, in the order of their indices."""
    splits: Mapping[str, Split]
    """`train` and `validation`, and `test` where there is one."""
    fingerprint: str
    """Hash of all texts and labels of training and validation."""
    notes: tuple[str, ...] = ()

    def described(self) -> tuple[str, ...]:
        """Short lines that show how the data was understood."""
        rows = ", ".join(f"{len(split):,} {name}" for name, split in self.splits.items())
        counts = Counter(self.splits["train"].labels.tolist())
        common = [f"{self.labels[index]} {count / len(self.splits['train']):.0%}" for index, count in counts.most_common(5)]
        more = f", and {len(self.labels) - 5} more" if len(self.labels) > 5 else ""
        what = " + ".join(self.columns.text)
        return (
            f"{self.task}: {what} -> {self.columns.label}",
            f"rows: {rows}",
            f"{len(self.labels)} classes: {', '.join(common)}{more}",
            *self.notes,
        )


def understand(data: str, text: Sequence[str] = (), label: str | None = None, task: str = "auto", seed: int = 0) -> TaskData:
    """Reads and checks the data; makes a validation split where there is none. Raises AutopeftError."""
    if task not in ("auto", *TASKS):
        raise unknown("task", task, ("auto", *TASKS))
    frames = read_splits(data)
    columns = guess_columns(frames["train"], text, label)
    for name, frame in frames.items():
        for column in (*columns.text, columns.label):
            if column not in frame.columns:
                raise AutopeftError(f"the {name} split of '{data}' has no column '{column}'.")
    _refuse_regression(frames["train"][columns.label], columns.label)
    named = {name: _labels(frame[columns.label], columns.label, name) for name, frame in frames.items()}
    classes = tuple(sorted(set(named["train"]), key=_natural))
    if len(classes) < 2:
        raise AutopeftError(f"column '{columns.label}' holds one class only, '{classes[0]}'; there is nothing to learn.")
    indices = {name: index for index, name in enumerate(classes)}
    splits, notes = {}, []
    for name, frame in frames.items():
        new = sorted(set(named[name]) - indices.keys())
        if new and name == "validation":
            raise AutopeftError(f"the validation split has the label '{new[0]}', which the training split has not.")
        kept = [label_name in indices for label_name in named[name]]
        if new:
            notes.append(f"{kept.count(False)} rows of the {name} split have labels that training has not; they are left out")
        texts = _texts(frame[kept], columns.text, name)
        labels = np.array([indices[each] for each in named[name] if each in indices], dtype=np.int64)
        splits[name] = Split(texts, labels)
    if "validation" not in splits:
        splits = _with_validation(splits, seed)
        notes.append(f"validation: split off the training data, stratified, seed {seed}")
    shared = len(set(splits["train"].texts) & set(splits["validation"].texts))
    if shared:
        notes.append(f"{shared} texts are both in training and in validation")
    order = {name: splits[name] for name in ("train", "validation", "test") if name in splits}
    return TaskData(TASKS[0], columns, classes, order, _fingerprint(order, classes), tuple(notes))


def _labels(column: pd.Series, name: str, split: str) -> list[str]:
    labels = [_label_name(value) for value in column]
    missing = [row for row, value in enumerate(labels, 1) if value.lower() in _MISSING]
    if missing:
        raise AutopeftError(f"{len(missing)} rows of the {split} split have no label in column '{name}', the first is row {missing[0]}.")
    return labels


def _label_name(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _natural(label: str) -> tuple[int, float, str]:
    """Whole numbers by value, before names by alphabet."""
    return (0, float(label), label) if label.lstrip("-").isdigit() else (1, 0.0, label)


def _refuse_regression(column: pd.Series, name: str) -> None:
    numbers = pd.to_numeric(column, errors="coerce").dropna()
    fractional = (numbers % 1 != 0).any() if len(numbers) else False
    if fractional and numbers.nunique() > 10:
        raise AutopeftError(f"column '{name}' holds {numbers.nunique()} different numbers: that is regression; known tasks: {', '.join(TASKS)}.")


def _texts(frame: pd.DataFrame, columns: Sequence[str], split: str) -> tuple[tuple[str, ...], ...]:
    for column in columns:
        for row, value in enumerate(frame[column], 1):
            if not isinstance(value, str):
                raise AutopeftError(f"column '{column}' is no text: row {row} of the {split} split holds {value!r}.")
    texts = tuple(zip(*(frame[column].tolist() for column in columns), strict=True))
    empty = sum(not any(part.strip() for part in each) for each in texts)
    if empty:
        row = next(row for row, each in enumerate(texts, 1) if not any(part.strip() for part in each))
        raise AutopeftError(f"{empty} rows of the {split} split have no text, the first is row {row}.")
    return texts


def _with_validation(splits: Mapping[str, Split], seed: int) -> dict[str, Split]:
    everything = splits["train"]
    if len(everything) < 2 * len(np.unique(everything.labels)) + 2:
        raise AutopeftError(f"{len(everything)} rows are too few to split a validation set off; give more, or a validation file.")
    train, validation = split_off(everything.labels, seed)

    def part(rows: np.ndarray) -> Split:
        return Split(tuple(everything.texts[row] for row in rows), everything.labels[rows])

    return {**splits, "train": part(train), "validation": part(validation)}


def _fingerprint(splits: Mapping[str, Split], labels: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\0".join(labels).encode())
    for name in ("train", "validation"):
        digest.update(splits[name].labels.tobytes())
        for text in splits[name].texts:
            digest.update("\0".join(text).encode() + b"\1")
    return digest.hexdigest()
