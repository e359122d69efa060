"""Several examples in one row, end to end, so that little of a batch is padding.

Positions say where each begins: they count from 0 again. Nothing is learned at an example's first token, which would
follow from the example before it. Which examples share a row is settled once, for all epochs and trials, and whatever
the seed: rows keep their numbers. Every column has as many entries of an example as it has tokens.
"""

from collections.abc import Sequence

import numpy as np

from autopeft.data.store import LABELS, Column, Dataset

POSITIONS = "position_ids"
"""Name in a batch of packed rows: the place of each token in its own example."""


def packed(data: Dataset, length: int) -> Dataset:
    """The same examples in fewer rows of up to so many tokens."""
    lengths = data.lengths
    groups = together(lengths, length)
    columns = {name: _joined(column, groups, name == LABELS) for name, column in data.columns.items()}
    positions = [np.concatenate([np.arange(lengths[each]) for each in group]) for group in groups]
    return Dataset({**columns, POSITIONS: Column.ragged(positions, np.int32)}, data.longest)


def together(lengths: np.ndarray, length: int) -> list[list[int]]:
    """Which examples share a row of up to `length` tokens: the longest first, each where it leaves least room (best fit
    decreasing). What is longer has a row to itself.
    """
    groups: list[list[int]] = []
    roomy: dict[int, list[int]] = {}
    """Rows by the room that is left in them."""
    rooms = 0
    """The same rooms as bits, of which the lowest that is high enough is found at once."""
    for example in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[example])
        if fitting := rooms >> size << size:
            room = (fitting & -fitting).bit_length() - 1
            group = roomy[room].pop()
            if not roomy[room]:
                rooms &= ~(1 << room)
        else:
            room, group = max(length, size), len(groups)
            groups.append([])
        groups[group].append(example)
        roomy.setdefault(room - size, []).append(group)
        rooms |= 1 << room - size
    return groups


def _joined(column: Column, groups: Sequence[Sequence[int]], forget_first: bool) -> Column:
    rows = []
    for group in groups:
        parts = [np.array(column[each]) for each in group]
        if forget_first:
            for part in parts:
                part[:1] = column.padding
        rows.append(np.concatenate(parts))
    return Column.ragged(rows, column.values.dtype, column.padding)
