import numpy as np
import pytest
import sklearn.model_selection  # noqa: F401 - imported where it splits, which takes longer than Hypothesis gives a case
from hypothesis import given
from hypothesis import strategies as st

from autopeft.data.splits import split_off, validation_size


@pytest.mark.parametrize(
    ("rows", "classes", "size"),
    [(90, 2, 30), (300, 2, 100), (1000, 2, 100), (5000, 2, 500), (100_000, 2, 2000), (12, 4, 4), (13, 6, 6)],
)
def test_a_tenth_is_split_off_but_neither_too_few_rows_nor_too_many(rows, classes, size):
    assert validation_size(rows, classes) == size


@st.composite
def labels(draw: st.DrawFn) -> np.ndarray:
    """As many rows as `understand` requires."""
    counts = draw(st.lists(st.integers(1, 40), min_size=2, max_size=12))
    counts[0] += max(0, 2 * len(counts) + 2 - sum(counts))
    rows = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(rows)


@given(labels(), st.integers(0, 2**32 - 1))
def test_a_split_is_a_stratified_partition_in_which_every_class_is_trained(rows, seed):
    train, validation = split_off(rows, seed)
    assert sorted([*train, *validation]) == list(range(len(rows)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    assert set(rows[train]) == set(rows)
    counts = np.bincount(rows)
    usual = counts >= 2
    share = len(validation) / counts[usual].sum()
    held_out = np.bincount(rows[validation], minlength=len(counts))
    assert (held_out[~usual] == 0).all()
    assert (np.abs(held_out - share * counts)[usual] < 1 + 1e-9).all()


def test_a_class_of_which_much_depends_is_not_held_out_whole():
    train, validation = split_off(np.array([0, 0, *range(1, 20)]), 0)
    assert len(validation) == 1
    assert 0 in np.array([0, 0, *range(1, 20)])[train]


def test_a_split_is_the_same_for_the_same_seed_only():
    rows = np.arange(400) % 3
    one, again, other = (split_off(rows, seed)[1].tolist() for seed in (1, 1, 2))
    assert one == again
    assert one != other
