"""Names of classes: how a cell says one, in which order they stand, and what to tell of them."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from autopeft.data.cells import holds_list, is_missing, list_in
from autopeft.data.files.contents import storable
from autopeft.data.rows import cut, is_single, short, some_rows
from autopeft.data.several import SEPARATOR
from autopeft.errors import AutopeftError
from autopeft.foreign import brief, told

FEW = 10
"""So many different values are classes, whatever they look like."""
_LIKE_MISSING = {"nan", "<na>", "na", "n/a", "none", "null", "-", "--", "?"}
_SAME = {"0": "false", "1": "true"}
"""What programs write for one another."""
_SHOWN = 3
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.ASCII)
_WHOLE = re.compile(r"(-?[0-9]+)\.0*", re.ASCII)


def names_of(frame: pd.DataFrame, column: str, split: str) -> list[str]:
    """The name of each row's class. Raises AutopeftError for a row that has none, or several."""
    for row, value in enumerate(frame[column], 1):
        if not is_single(value):
            many = "; several for a row are --task multi-label-classification" if holds_list(value) else ""
            raise AutopeftError(
                f"column '{column}' holds no single label: row {row} of the {split} split has {brief(value)}{many}."
            )
    lists = [row for row, value in enumerate(frame[column], 1) if _is_written_list(value)]
    if 2 * len(lists) > len(frame):
        raise AutopeftError(
            f"column '{column}' holds no single label: row {lists[0]} of the {split} split has the list "
            f"{brief(frame[column].iloc[lists[0] - 1])}; several for a row are --task multi-label-classification."
        )
    found = [name_of(value) for value in frame[column]]
    missing = [row for row, name in enumerate(found, 1) if name is None]
    if missing:
        several = next((told(name) for name in found if name and SEPARATOR in name), None)
        raise AutopeftError(
            f"column '{column}' has no label in {some_rows(missing, len(found), split)}; "
            + (
                f"if '{several}' is several labels, and a row may have none: --task multi-label-classification."
                if several
                else "fill them in or leave those rows out."
            )
        )
    return [str(name) for name in found]


def _is_written_list(cell: object) -> bool:
    if not (isinstance(cell, str) and holds_list(cell)):
        return False
    try:
        list_in(cell)
    except AutopeftError:
        return False
    return True


def name_of(value: object) -> str | None:
    """The name of a class; None where it is missing.

    Whole numbers are written without a fraction: 1.0 is `1`, and -0.0 is `0`. Letters with accents are one character.
    """
    if is_missing(value) or not is_single(value):
        return None
    name = storable(unicodedata.normalize("NFC", str(value)).strip())
    whole = _WHOLE.fullmatch(name)
    name = whole[1] if whole else name
    return "0" if name == "-0" else name or None


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """The different names: numbers by value, before words by alphabet."""
    return tuple(sorted(set(names), key=_natural))


def classes_of(names: Sequence[str], column: str) -> tuple[str, ...]:
    """The classes in their order. Raises AutopeftError when they are too few, too many, or a quantity."""
    classes = in_order(names)
    if len(classes) < 2:
        raise AutopeftError(
            f"column '{column}' holds one class only, '{short(classes[0])}'; there is nothing to learn."
        )
    if are_quantities(classes):
        raise AutopeftError(
            f"column '{column}' holds {len(classes):,} different numbers: that is regression; "
            "give --task text-regression."
        )
    if len(classes) > max(FEW, len(names) / 2):
        raise AutopeftError(
            f"column '{column}' holds {len(classes):,} different values in {len(names):,} rows, "
            "too many to be classes; give another column as --label."
        )
    return classes


def are_quantities(classes: Sequence[str]) -> bool:
    """Whether so many different names are numbers, some with a fraction."""
    # Where a comma stands for the point, as in many languages, numbers are still numbers.
    numbers = [name.replace(",", ".", 1) for name in classes]
    return len(classes) > FEW and all(map(_NUMBER.fullmatch, numbers)) and any(float(name) % 1 for name in numbers)


def indices_of(names: Sequence[str], classes: Sequence[str], split: str) -> np.ndarray:
    """(rows,) the classes' indices. Raises AutopeftError for a name that no training row has."""
    indices = {name: index for index, name in enumerate(classes)}
    for row, name in enumerate(names, 1):
        if name not in indices:
            close = next((f", where it is '{each}'" for each in classes if _folded(each) == _folded(name)), "")
            raise AutopeftError(
                f"row {row} of the {split} split has the label '{short(name)}', which no training row has{close}."
            )
    return np.array([indices[name] for name in names], dtype=np.int64)


def notes_on(names: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """What whoever gave the names should know."""
    counts = Counter(names)
    notes = [
        f"'{name}' is taken for a class, not for a missing label (rows: {counts[name]:,})"
        for name in classes
        if name.lower() in _LIKE_MISSING
    ]
    pairs = ((word, digit) for digit, said in _SAME.items() for word in classes if word.lower() == said)
    if both := [f"'{word}' and '{digit}'" for word, digit in pairs if digit in classes]:
        notes.append(f"classes that may be one, written in two ways: {'; '.join(both)}")
    if alike := _alike(classes):
        notes.append(f"classes that differ in case, blanks or zeros only, and may be one: {alike}")
    return tuple(notes)


def shares(counts: np.ndarray, classes: Sequence[str], of: int | None = None) -> str:
    """`3 classes: a 50%, b 30%, c 20%`: the five most frequent with their shares."""
    whole = counts.sum() if of is None else of
    common = [
        f"{short(classes[index])} {counts[index] / whole:.0%}" for index in np.argsort(-counts, kind="stable")[:5]
    ]
    more = f", and {len(classes) - 5} more" if len(classes) > 5 else ""
    return f"{len(classes)} classes: {', '.join(common)}{more}"


def _alike(classes: Sequence[str]) -> str:
    """Classes that a reader would take for one, as people and programs write them: `True` and `TRUE`, `1` and `01`."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(_folded(name), []).append(repr(cut(name)))
    some = [" and ".join(group[:_SHOWN]) for group in groups.values() if len(group) > 1]
    more = f", and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
    return "; ".join(some[:_SHOWN]) + more


def _folded(name: str) -> str:
    """What is left of a name without case, blanks, invisible characters and leading zeros."""
    if _NUMBER.fullmatch(name):
        return str(float(name))
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(each for each in plain if not each.isspace() and unicodedata.category(each) != "Cf")


def _natural(label: str) -> tuple[int, float, str]:
    """Numbers by value, before names by alphabet."""
    return (0, float(label), label) if _NUMBER.fullmatch(label) else (1, 0.0, label)
