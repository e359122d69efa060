"""From a data argument to a task and its splits, checked and described.

The test split is carried along: nothing that a search does or says of its results depends on it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from autopeft.backbone.load import Backbone
from autopeft.data.columns import CATEGORIES, IMAGE, Columns
from autopeft.data.files.image_folder import with_images_in
from autopeft.data.packing import packed
from autopeft.data.reading import read_splits
from autopeft.data.rows import Rows, has_columns, overlaps, short
from autopeft.data.several import separated, with_flags
from autopeft.data.splits import split_off
from autopeft.data.store import FORMAT, Dataset, kept
from autopeft.errors import AutopeftError
from autopeft.plan import COMPLETION
from autopeft.tasks.base import Task
from autopeft.tasks.named import guess_task, task_named, tasks
from autopeft.tasks.own import digest, is_of_user, shown

UNPACKED = "unpacked"
"""Name of the training split with one example in each row, where `train` has several."""


@dataclass(frozen=True)
class TaskData:
    """A task's data as understood."""

    task: Task
    columns: Columns
    splits: Mapping[str, Rows]
    """`train` and `validation`, and `test` where there is one."""
    fingerprint: str
    """Hash of all rows of training and validation."""
    notes: tuple[str, ...] = ()

    @property
    def test_fingerprint(self) -> str:
        """Hash of all rows of the test split; empty where there is none."""
        return _fingerprint(self.task, self.splits, ("test",)) if "test" in self.splits else ""

    def described(self) -> tuple[str, ...]:
        """Short lines that show how the data was understood."""
        target, *others = (" + ".join(map(short, columns)) for columns in self.columns.values())
        rows = ", ".join(f"{len(split):,} {name}" for name, split in self.splits.items())
        return (
            f"{self.task.name}: {' -> '.join(part for part in (', '.join(others), target) if part)}",
            f"rows: {rows}",
            *self.task.described(self.splits["train"]),
            *self.notes,
        )


def understand(
    data: str,
    columns: Columns = MappingProxyType({}),
    task: str = "auto",
    seed: int = 0,
    separator: str | None = None,
    loss_on: str = COMPLETION,
) -> TaskData:
    """Reads and checks the data; makes a validation split where there is none. Raises AutopeftError.

    `separator` stands between several labels in one cell, where that is another than usual; `loss_on` is what of a row
    is learned, where that may be chosen.

    Every row of training and validation must be complete. Of a test split the complete rows are kept, so that one
    without labels stops no search.
    """
    kind = None if task == "auto" else task_named(task)
    told: list[str] = []
    frames = read_splits(data, told.append, tuple(name for each in columns.values() for name in each))
    kind = kind or guess_task(frames["train"], columns)
    columns = kind.columns(frames["train"], columns)
    images = [name for role, names in columns.items() if kind.roles[role].kind == IMAGE for name in names]
    frames = {name: with_images_in(frame, images) for name, frame in frames.items()}
    if separator is not None:
        several = _in_one_cell(kind, columns, separator)
        frames = {name: separated(frame, several, separator) for name, frame in frames.items()}
    for role, names in columns.items():
        if kind.roles[role].kind == CATEGORIES and len(names) == 1:
            frames = with_flags(frames, names[0])
    learned, notes = kind.understand(frames["train"], columns)
    learned = learned.learning(loss_on)
    notes = [*told, *notes]
    splits: dict[str, Rows] = {
        name: _rows(learned, frames[name], columns, name) for name in ("train", "validation") if name in frames
    }
    if "validation" not in splits:
        splits, how = _with_validation(learned, splits["train"], seed)
        notes += how
    fingerprint = _fingerprint(learned, splits, ("train", "validation"))
    if "test" in frames:
        complete = frames["test"][:0]
        if has_columns(frames["test"], columns):
            complete = learned.complete(frames["test"], columns)
        if len(complete):
            splits["test"] = _rows(learned, complete, columns, "test")
        if left_out := len(frames["test"]) - len(complete):
            a = "an" if learned.noun[0] in "aeiou" else "a"
            notes.append(f"test rows without {a} {learned.noun} or a known {learned.target}, left out: {left_out:,}")
    notes += overlaps(splits, learned.noun, learned.target)
    return TaskData(learned, columns, splits, fingerprint, tuple(notes))


def _rows(task: Task, frame: pd.DataFrame, columns: Columns, split: str) -> Rows:
    """A split as the task reads it. Raises AutopeftError, also for a task that loses some of what is to be learned."""
    rows = task.rows(frame, columns, split)
    if len(rows.inputs) != len(rows.targets):
        raise AutopeftError(
            f"the task '{shown(type(task))}' must give a target for each of {len(rows.inputs):,} rows of the {split} "
            f"split, not {len(rows.targets):,}."
        )
    return rows


def encoded(data: TaskData, backbone: Backbone, max_length: int, folder: Path, *, packing: bool = False) -> Path:
    """The folder of the splits as the model reads them, inside `folder`; made once for equal content. By `packing`,
    rows of the training split are as long as may be, and hold several examples.

    Raises AutopeftError for what the model cannot read.
    """
    what: tuple[object, ...] = (
        FORMAT,
        data.task.name,
        data.fingerprint,
        data.test_fingerprint,
        data.task.key(backbone, max_length),
    )
    if is_of_user(type(data.task)):
        what = (*what, digest(type(data.task)))
    if packing:
        what = (*what, "packed")
    key = hashlib.sha256(" ".join(map(str, what)).encode()).hexdigest()[:24]

    def made() -> Mapping[str, Dataset]:
        splits = {name: data.task.encode(rows, backbone, max_length) for name, rows in data.splits.items()}
        if not packing:
            return splits
        return {**splits, "train": packed(splits["train"], max_length), UNPACKED: splits["train"]}

    return kept(folder / f"tokens-{key}", made)


def _in_one_cell(kind: type[Task], columns: Columns, separator: str) -> str:
    """The column whose cells hold several labels. Raises AutopeftError where there is none."""
    if not separator:
        raise AutopeftError("separator must be what stands between labels, such as ',', not ''.")
    several = next((names for role, names in columns.items() if kind.roles[role].kind == CATEGORIES), ())
    if len(several) != 1:
        have = f"these are {len(several)} columns of 0 and 1" if several else f"a task '{kind.name}' has no such column"
        others = [task.name for task in tasks().values() if any(r.kind == CATEGORIES for r in task.roles.values())]
        advice = "" if several else f"; give --task {' or '.join(others)}"
        raise AutopeftError(f"'{separator}' separates several labels in one cell, but {have}{advice}.")
    return several[0]


def _with_validation(task: Task, everything: Rows, seed: int) -> tuple[dict[str, Rows], list[str]]:
    """Training and validation rows, and notes on how they were split."""
    strata = task.strata(everything.targets)
    groups = np.zeros(len(everything), dtype=np.int64) if strata is None else strata
    counts = np.unique(groups, return_counts=True)[1]
    if len(everything) < 2 * len(counts) + 2:
        of_classes = "" if strata is None else f" of {len(counts)} classes"
        raise AutopeftError(
            f"{len(everything)} rows{of_classes} are too few to split a validation set off; "
            "give more, or a validation file."
        )
    train, validation = split_off(groups, seed)
    how = "" if strata is None else ", stratified"
    notes = [f"validation: split off the training data{how}, seed {seed}"]
    if strata is not None and (alone := int((counts == 1).sum())):
        notes.append(f"classes of a single row, which stays in training: {alone:,}")
    return {"train": everything.taken(train), "validation": everything.taken(validation)}, notes


def _fingerprint(task: Task, splits: Mapping[str, Rows], names: tuple[str, ...]) -> str:
    digest = hashlib.sha256(task.identity.encode())
    for name in names:
        splits[name].add_to(digest)
    return digest.hexdigest()
