"""Which examples share a row, and what such rows hold."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autopeft.data.packing import POSITIONS, packed, together
from autopeft.data.store import LABELS, MASK, Column, Dataset


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(8, 24))
def test_every_example_has_one_row_and_no_row_is_longer_than_asked(lengths: list[int], length: int) -> None:
    groups = together(np.array(lengths), length)
    assert sorted(example for group in groups for example in group) == [*range(len(lengths))]
    for group in groups:
        assert len(group) == 1 or sum(lengths[each] for each in group) <= length


@given(st.lists(st.integers(1, 24), min_size=1, max_size=60))
def test_no_two_rows_would_fit_into_one(lengths: list[int]) -> None:
    sizes = sorted(sum(lengths[each] for each in group) for group in together(np.array(lengths), 24))
    assert sum(sizes[:2]) > 24 or len(sizes) == 1


def test_each_example_goes_where_it_leaves_least_room() -> None:
    assert together(np.array([2, 7, 3, 6, 1]), 10) == [[1, 2], [3, 0, 4]]


def test_positions_begin_again_and_no_example_is_learned_to_follow_another() -> None:
    ids = Column.ragged([[5, 6, 7], [8, 9, 10, 11], [12]], np.int32, 1)
    labels = Column.ragged([[5, 6, 7], [-100, -100, 10, 11], [12]], np.int32, -100)
    rows = packed(Dataset({"input_ids": ids, LABELS: labels}, 8), 8)
    assert (len(rows), rows.longest) == (1, 8)
    batch = rows.batch([0])
    assert batch["input_ids"].tolist() == [[8, 9, 10, 11, 5, 6, 7, 12]]
    assert batch[POSITIONS].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0]]
    assert batch[LABELS].tolist() == [[-100, -100, 10, 11, -100, 6, 7, -100]]
    assert batch[MASK].tolist() == [[1] * 8]
    assert labels.values[0] == 5, "what was packed is as it was"
