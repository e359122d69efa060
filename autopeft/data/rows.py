"""From a data argument to texts and integer labels, checked and described.

The test split is carried along: nothing that a search does or says of its results depends on it.
"""

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd

from autopeft.data.columns import Columns, guess_columns
from autopeft.data.files.contents import storable
from autopeft.data.reading import read_splits
from autopeft.data.splits import split_off
from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief

TASKS = ("text-classification",)
_LIKE_MISSING = {"nan", "<na>", "na", "n/a", "none", "null", "-", "--", "?"}
_FEW = 10
"""So many different values are classes, whatever they look like."""
_SHOWN = 3
_LONGEST = 60
"""Characters of a name that are shown."""
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.ASCII)
_WHOLE = re.compile(r"(-?[0-9]+)\.0*", re.ASCII)


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

    @property
    def test_fingerprint(self) -> str:
        """Hash of all texts and labels of the test split; empty where there is none."""
        if "test" not in self.splits:
            return ""
        digest = hashlib.sha256("\0".join(self.labels).encode())
        _add(digest, self.splits["test"])
        return digest.hexdigest()

    def described(self) -> tuple[str, ...]:
        """Short lines that show how the data was understood."""
        rows = ", ".join(f"{len(split):,} {name}" for name, split in self.splits.items())
        counts = np.bincount(self.splits["train"].labels)
        common = [
            f"{_short(self.labels[index])} {counts[index] / counts.sum():.0%}"
            for index in np.argsort(-counts, kind="stable")[:5]
        ]
        more = f", and {len(self.labels) - 5} more" if len(self.labels) > 5 else ""
        what = " + ".join(map(_short, self.columns.text))
        return (
            f"{self.task}: {what} -> {_short(self.columns.label)}",
            f"rows: {rows}",
            f"{len(self.labels)} classes: {', '.join(common)}{more}",
            *self.notes,
        )


def understand(
    data: str, text: Sequence[str] = (), label: str | None = None, task: str = "auto", seed: int = 0
) -> TaskData:
    """Reads and checks the data; makes a validation split where there is none. Raises AutopeftError.

    Every row of training and validation must be complete. Of a test split the complete rows are kept, so that one
    without labels stops no search.
    """
    if task not in ("auto", *TASKS):
        raise unknown("task", task, ("auto", *TASKS))
    told: list[str] = []
    frames = read_splits(data, told.append, (*text, *([label] if label is not None else [])))
    columns = guess_columns(frames["train"], text, label)
    names = _labels(frames["train"], columns.label, "train")
    classes = _classes(names, columns.label)
    notes = [
        *told,
        *(
            f"'{name}' is taken for a class, not for a missing label (rows: {names.count(name):,})"
            for name in classes
            if name.lower() in _LIKE_MISSING
        ),
    ]
    if alike := _alike(classes):
        notes.append(f"classes that differ in case, blanks or zeros only, and may be one: {alike}")
    splits: dict[str, Split] = {
        name: _split(frames[name], columns, classes, name) for name in ("train", "validation") if name in frames
    }
    if "validation" not in splits:
        splits = _with_validation(splits["train"], seed)
        notes.append(f"validation: split off the training data, stratified, seed {seed}")
        if alone := sum(count == 1 for count in Counter(names).values()):
            notes.append(f"classes of a single row, which stays in training: {alone:,}")
    fingerprint = _fingerprint(splits, classes)
    if "test" in frames:
        complete = _complete(frames["test"], columns, classes)
        if len(complete):
            splits["test"] = _split(complete, columns, classes, "test")
        if left_out := len(frames["test"]) - len(complete):
            notes.append(f"test rows without a text or a known label, left out: {left_out:,}")
    notes += _overlaps(splits)
    return TaskData(TASKS[0], columns, classes, splits, fingerprint, tuple(notes))


def _split(frame: pd.DataFrame, columns: Columns, classes: Sequence[str], split: str) -> Split:
    held = list(frame.columns)
    for column in (*columns.text, columns.label):
        if held.count(column) != 1:
            count = "no column" if column not in held else f"{held.count(column)} columns"
            raise AutopeftError(f"the {split} split has {count} '{column}'; it has {', '.join(held)}.")
    indices = {name: index for index, name in enumerate(classes)}
    names = _labels(frame, columns.label, split)
    for row, name in enumerate(names, 1):
        if name not in indices:
            close = next((f", where it is '{each}'" for each in classes if _folded(each) == _folded(name)), "")
            raise AutopeftError(
                f"row {row} of the {split} split has the label '{_short(name)}', which no training row has{close}."
            )
    return Split(_texts(frame, columns.text, split), np.array([indices[name] for name in names], dtype=np.int64))


def _complete(frame: pd.DataFrame, columns: Columns, classes: Sequence[str]) -> pd.DataFrame:
    """The rows with texts and a known label."""
    if any(list(frame.columns).count(column) != 1 for column in (*columns.text, columns.label)):
        return frame[:0]
    labelled = frame[columns.label].map(_label_name).isin(classes)
    texts = frame[list(columns.text)]
    valid = texts.map(lambda value: isinstance(value, str) or _is_missing(value)).all(axis=1)
    return frame[labelled & valid & texts.map(lambda value: isinstance(value, str) and bool(value.strip())).any(axis=1)]


def _labels(frame: pd.DataFrame, column: str, split: str) -> list[str]:
    """The names of the classes, row by row."""
    for row, value in enumerate(frame[column], 1):
        if not _is_single(value):
            raise AutopeftError(
                f"column '{column}' holds no single label: row {row} of the {split} split has {brief(value)}."
            )
    found = [_label_name(value) for value in frame[column]]
    missing = [row for row, name in enumerate(found, 1) if name is None]
    if missing:
        raise AutopeftError(
            f"column '{column}' has no label in {_rows(missing, found, split)}; fill them in or leave those rows out."
        )
    return [str(name) for name in found]


def _label_name(value: object) -> str | None:
    """The name of a class; None where it is missing.

    Whole numbers are written without a fraction: 1.0 is `1`, and -0.0 is `0`. Letters with accents are one character.
    """
    if _is_missing(value) or not _is_single(value):
        return None
    name = storable(unicodedata.normalize("NFC", str(value)).strip())
    whole = _WHOLE.fullmatch(name)
    name = whole[1] if whole else name
    return "0" if name == "-0" else name or None


def _is_single(value: object) -> bool:
    return bool(pd.api.types.is_scalar(value)) and not isinstance(value, bytes)


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _classes(names: Sequence[str], column: str) -> tuple[str, ...]:
    """The classes in their order. Raises AutopeftError when they are too few, too many, or a quantity."""
    classes = tuple(sorted(set(names), key=_natural))
    if len(classes) < 2:
        raise AutopeftError(
            f"column '{column}' holds one class only, '{_short(classes[0])}'; there is nothing to learn."
        )
    if len(classes) <= _FEW:
        return classes
    # Where a comma stands for the point, as in many languages, numbers are still numbers.
    numbers = [name.replace(",", ".", 1) for name in classes]
    if all(map(_NUMBER.fullmatch, numbers)) and any(float(name) % 1 for name in numbers):
        raise AutopeftError(
            f"column '{column}' holds {len(classes):,} different numbers: that is regression; "
            f"known tasks: {', '.join(TASKS)}."
        )
    if len(classes) > len(names) / 2:
        raise AutopeftError(
            f"column '{column}' holds {len(classes):,} different values in {len(names):,} rows, "
            "too many to be classes; give another column as --label."
        )
    return classes


def _alike(classes: Sequence[str]) -> str:
    """Classes that a reader would take for one, as people and programs write them: `True` and `TRUE`, `1` and `01`."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(_folded(name), []).append(repr(_cut(name)))
    some = [" and ".join(group[:_SHOWN]) for group in groups.values() if len(group) > 1]
    more = f", and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
    return "; ".join(some[:_SHOWN]) + more


def _folded(name: str) -> str:
    """What is left of a name without case, blanks, invisible characters and leading zeros."""
    if _NUMBER.fullmatch(name):
        return str(float(name))
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(each for each in plain if not each.isspace() and unicodedata.category(each) != "Cf")


def _short(name: str) -> str:
    """A name as it is shown: on one line, and not a whole text."""
    return _cut(" ".join(name[: 2 * _LONGEST].split()))


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _natural(label: str) -> tuple[int, float, str]:
    """Numbers by value, before names by alphabet."""
    return (0, float(label), label) if _NUMBER.fullmatch(label) else (1, 0.0, label)


def _texts(frame: pd.DataFrame, columns: Sequence[str], split: str) -> tuple[tuple[str, ...], ...]:
    """Of a pair one text may be missing, which is then empty."""
    for column in columns:
        for row, value in enumerate(frame[column], 1):
            if not isinstance(value, str) and not _is_missing(value):
                raise AutopeftError(f"column '{column}' is no text: row {row} of the {split} split has {brief(value)}.")
    filled = [[storable(value) if isinstance(value, str) else "" for value in frame[column]] for column in columns]
    texts = tuple(zip(*filled, strict=True))
    missing = [row for row, each in enumerate(texts, 1) if not any(map(str.strip, each))]
    if missing:
        named = " and ".join(f"'{column}'" for column in columns)
        raise AutopeftError(
            f"column {named} has no text in {_rows(missing, texts, split)}; fill them in or leave those rows out."
        )
    return texts


def _rows(some: Sequence[int], rows: Sequence[object], split: str) -> str:
    return f"{len(some):,} of {len(rows):,} rows of the {split} split, the first is row {some[0]}"


def _with_validation(everything: Split, seed: int) -> dict[str, Split]:
    classes = len(np.unique(everything.labels))
    if len(everything) < 2 * classes + 2:
        raise AutopeftError(
            f"{len(everything)} rows of {classes} classes are too few to split a validation set off; "
            "give more, or a validation file."
        )
    train, validation = split_off(everything.labels, seed)

    def part(rows: np.ndarray) -> Split:
        return Split(tuple(everything.texts[row] for row in rows), everything.labels[rows])

    return {"train": part(train), "validation": part(validation)}


def _overlaps(splits: Mapping[str, Split]) -> list[str]:
    """Notes on texts that stand in two splits, which makes a score of the later one too good, or cannot be learned."""
    notes = []
    labels = {name: dict(zip(split.texts, split.labels.tolist(), strict=True)) for name, split in splits.items()}
    for first, second in combinations(labels, 2):
        if shared := labels[first].keys() & labels[second].keys():
            other = sum(labels[first][text] != labels[second][text] for text in shared)
            contrary = f", of which {other:,} with another label" if other else ""
            names = (name.replace("train", "training") for name in (first, second))
            notes.append(f"texts both in {' and in '.join(names)}: {len(shared):,}{contrary}")
    return notes


def _fingerprint(splits: Mapping[str, Split], labels: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\0".join(labels).encode())
    for name in ("train", "validation"):
        _add(digest, splits[name])
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", split: Split) -> None:
    digest.update(split.labels.tobytes())
    for text in split.texts:
        digest.update("\0".join(text).encode() + b"\1")
