"""Answers as often as in training, with the backbone for what is new, are a distribution whose loss can be compared."""

import numpy as np
import pytest

from autopeft.data.store import Column
from autopeft.tasks.heads import NO_LABEL
from autopeft.tasks.recalled import recalled


def labels(*answers: tuple[int, ...]) -> Column:
    """After a prompt of two tokens."""
    return Column.ragged([(NO_LABEL, NO_LABEL, *answer) for answer in answers], np.int32, NO_LABEL)


def test_an_answer_is_as_likely_as_it_was_frequent_and_new_ones_are_the_backbones() -> None:
    train, validation = labels((5,), (5,), (5,), (7, 8)), labels((5,), (7, 8), (9, 9, 9))
    alone = np.array([[1.0, 1, 0], [4.0, 2, 1], [6.0, 3, 0]])
    found = recalled(train, validation, alone)
    likely = [(3 + 2 * np.exp(-1)) / 6, (1 + 2 * np.exp(-4)) / 6, 2 * np.exp(-6) / 6]
    assert found[:, 0] == pytest.approx(-np.log(likely))
    assert found[:, 1].tolist() == [1, 2, 3]


def test_it_is_a_distribution_where_the_backbone_is_one() -> None:
    every = [(number,) for number in range(10)]
    of_backbone = np.random.default_rng(0).dirichlet(np.ones(10))
    alone = np.stack([-np.log(of_backbone), np.ones(10), np.zeros(10)], axis=1)
    found = recalled(labels((1,), (1,), (2,)), labels(*every), alone)
    assert np.exp(-found[:, 0]).sum() == pytest.approx(1)
