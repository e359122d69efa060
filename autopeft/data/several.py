"""Several names in a row: as a list, in a text between separators, or a column of 0 and 1 for each, called like it.

An empty text, or an empty list, holds none. Lists of one length that hold nothing but 0 and 1 are no names: each place
stands for one, which is called by its number.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from autopeft.data.cells import holds_list, is_missing, list_in
from autopeft.data.numbers import number_in
from autopeft.data.rows import some_rows
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

SEPARATOR = ";"
Namer = Callable[[object], str | None]
"""How a value says a name; None where it says none."""
_FLAGS = {"false": False, "true": True}


class Flags(tuple[bool, ...]):
    """Whether a row has each name, by its place."""


def separated(frame: pd.DataFrame, column: str, separator: str) -> pd.DataFrame:
    """The table with lists in place of texts in a column, where it has that."""

    def parted(cell: Any) -> Any:
        return _parts(cell, separator) if isinstance(cell, str) and not holds_list(cell) else cell

    return frame.assign(**{column: [parted(cell) for cell in frame[column]]}) if column in frame else frame


def with_flags(frames: Mapping[str, pd.DataFrame], column: str) -> dict[str, pd.DataFrame]:
    """The tables of all splits with `Flags` in a column, where its lists in training are such.

    Raises AutopeftError for a row of training or validation whose list is another than the others.
    """
    found: list[Flags] = []
    for cell in frames["train"][column]:
        flags = None if is_missing(cell) else _flags(cell)
        if flags is not None:
            found.append(flags)
        elif not is_missing(cell):
            return dict(frames)
    lengths = Counter(map(len, found))
    # Names do not come twice in a row.
    if len(lengths) > 1 and all(len({*each}) == len(each) for each in found):
        return dict(frames)
    if not lengths or (width := lengths.most_common(1)[0][0]) < 2:
        return dict(frames)
    return {
        split: frame.assign(**{column: _all_flags(frame[column], width, split)})
        if [*frame.columns].count(column) == 1
        else frame
        for split, frame in frames.items()
    }


def _all_flags(cells: "pd.Series[Any]", width: int, split: str) -> "pd.Series[Any]":
    """Of a test split, None where a cell holds something else."""
    read: list[Flags | None] = []
    for row, cell in enumerate(cells, 1):
        flags = _flags(cell)
        fits = flags is not None and len(flags) == width
        if not fits and not is_missing(cell) and split != "test":
            raise AutopeftError(
                f"row {row} of the {split} split has {brief(cell)} in column '{cells.name}', where others have a list "
                f"of {width} numbers, each 0 or 1."
            )
        read.append(flags if fits else None)
    return pd.Series(read, index=cells.index, dtype=object)


def _flags(cell: object) -> Flags | None:
    """What a list of 0 and 1 says; None of other cells."""
    if not holds_list(cell):
        return None
    try:
        flags = [None if isinstance(item, str) else _flag(item) for item in list_in(cell)]
    except AutopeftError:
        return None
    return None if None in flags else Flags(map(bool, flags))


def names_in_rows(frame: pd.DataFrame, columns: Sequence[str], split: str, name: Namer) -> list[set[str]]:
    """The names of each row. Raises AutopeftError for a row of which they cannot be told."""
    rows = list(zip(*(frame[column] for column in columns), strict=True))
    if missing := [row for row, cells in enumerate(rows, 1) if any(map(is_missing, cells))]:
        named = " or ".join(f"'{column}'" for column in columns[:3]) + " …" * (len(columns) > 3)
        raise AutopeftError(
            f"column {named} has no labels in {some_rows(missing, len(rows), split)}; fill them in (an empty list says "
            "that there are none) or leave those rows out."
        )
    found = []
    for row, cells in enumerate(rows, 1):
        try:
            found.append(names_in(cells, columns, name))
        except AutopeftError as error:
            raise AutopeftError(f"row {row} of the {split} split has no labels that can be read: {error}") from error
    return found


def readable_names(cells: Sequence[Any], columns: Sequence[str], name: Namer) -> set[str] | None:
    """The names that a row's cells hold; None where they hold something else."""
    try:
        return names_in(cells, columns, name)
    except AutopeftError:
        return None


def names_in(cells: Sequence[Any], columns: Sequence[str], name: Namer) -> set[str]:
    """The names that a row's cells hold. Raises AutopeftError, which says what they hold instead."""
    if len(columns) == 1:
        return _named(cells[0], name)
    flags = [_flag(cell) for cell in cells]
    if None in flags:
        at = flags.index(None)
        raise AutopeftError(f"in column '{columns[at]}' stands {brief(cells[at])}, neither 0 nor 1.")
    return {column for column, flag in zip(columns, flags, strict=True) if flag}


def _named(cell: Any, name: Namer) -> set[str]:
    if isinstance(cell, Flags):
        return {str(place) for place, has in enumerate(cell) if has}
    if holds_list(cell) or (not isinstance(cell, str) and name(cell) is None):
        items = list_in(cell)
    else:
        items = _parts(cell, SEPARATOR) if isinstance(cell, str) else [cell]
    names = [name(item) for item in items]
    if None in names:
        raise AutopeftError(f"{brief(cell)} holds {brief(items[names.index(None)])}, which is no name.")
    return {str(each) for each in names}


def _parts(text: str, separator: str) -> list[str]:
    return [part for part in text.split(separator) if part.strip()]


def _flag(cell: Any) -> bool | None:
    if isinstance(cell, bool | np.bool_):
        return bool(cell)
    if isinstance(cell, str) and cell.strip().lower() in _FLAGS:
        return _FLAGS[cell.strip().lower()]
    number = number_in(cell)
    return bool(number) if number in (0, 1) else None
