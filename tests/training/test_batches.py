"""Batches hold every example once, little padding, and the same order for the same seed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autopeft.training.batches import batches, by_length, cut


@given(st.lists(st.integers(1, 200), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 5))
def test_every_example_comes_once_in_an_epoch(lengths: list[int], size: int, seed: int) -> None:
    made = batches(np.array(lengths), size, np.random.default_rng(seed))
    assert sorted(np.concatenate(made)) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in made)
    assert len(made) == -(-len(lengths) // size)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=300), st.integers(200, 2000), st.integers(1, 64))
def test_evaluation_batches_keep_their_limits(lengths: list[int], tokens: int, most: int) -> None:
    made = by_length(np.array(lengths), tokens, most)
    assert sorted(np.concatenate(made)) == list(range(len(lengths)))
    assert all(len(batch) <= most and len(batch) * max(lengths[i] for i in batch) <= tokens for batch in made)


def test_grouping_by_length_saves_most_of_the_padding() -> None:
    lengths = np.random.default_rng(0).integers(4, 128, 2000)

    def padded(made: list[np.ndarray]) -> int:
        return sum(len(batch) * int(lengths[batch].max()) for batch in made)

    shuffled = np.random.default_rng(1).permutation(2000)
    plain = [shuffled[start : start + 32] for start in range(0, 2000, 32)]
    grouped = batches(lengths, 32, np.random.default_rng(1))
    assert padded(grouped) < 1.05 * lengths.sum() < 0.65 * padded(plain)


def test_epochs_differ_and_seeds_repeat() -> None:
    lengths = np.full(64, 8)
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    first, second = batches(lengths, 8, rng), batches(lengths, 8, rng)
    assert not all(map(np.array_equal, first, second))
    assert all(map(np.array_equal, first, batches(lengths, 8, again)))


@pytest.mark.parametrize(("size", "expected"), [(None, [5]), (5, [5]), (9, [5]), (2, [2, 2, 1]), (1, [1] * 5)])
def test_a_batch_is_cut_into_pieces_that_make_it_up(size: int | None, expected: list[int]) -> None:
    batch = {"input_ids": torch.arange(10).reshape(5, 2), "labels": torch.arange(5)}
    pieces = cut(batch, size)
    assert [len(piece["labels"]) for piece in pieces] == expected
    assert all(torch.equal(torch.cat([piece[name] for piece in pieces]), batch[name]) for name in batch)
