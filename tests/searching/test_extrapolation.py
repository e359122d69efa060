"""Where a training may end, by those that have ended."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.searching.extrapolation import LEAST, ends
from autopeft.trial import Rung

Curve = tuple[Rung, ...]


def curve(*accuracies: float) -> Curve:
    return tuple(Rung(step, 3, accuracy, 0.02, 1.0, float(step)) for step, accuracy in enumerate(accuracies, 1))


def test_each_end_is_what_it_has_and_what_another_gained_after_the_same_rung() -> None:
    ended = [curve(0.5, 0.6, 0.6), curve(0.5, 0.6, 0.7), curve(0.5, 0.5, 0.8)]
    assert sorted(ends(curve(0.55), ended)) == pytest.approx([0.65, 0.75, 0.85])
    assert sorted(ends(curve(0.1, 0.55), ended)) == pytest.approx([0.55, 0.65, 0.85])


def test_the_eight_nearest_at_the_rung_count() -> None:
    slow, quick = [curve(0.3, 0.4, 0.7)] * 8, [curve(0.7, 0.7, 0.72)] * 8
    assert ends(curve(0.35), [*quick, *slow]) == pytest.approx(np.full(8, 0.75))
    assert ends(curve(0.65), [*quick, *slow]) == pytest.approx(np.full(8, 0.67))


def test_too_few_and_those_without_the_rung_tell_nothing() -> None:
    ended = [curve(0.5, 0.6, 0.7)] * (LEAST - 1) + [curve(0.9)] * 5
    assert len(ends(curve(0.5, 0.6), ended)) == 0
    assert len(ends(curve(0.5, 0.6), [*ended, curve(0.5, 0.6, 0.7)])) == LEAST


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=LEAST, max_size=40), st.integers(0, 9))
def test_the_nearest_are_those_that_a_look_through_all_would_find(drawn: list[tuple[int, int]], score: int) -> None:
    then, end = np.array(drawn, dtype=float).T
    nearest = np.argsort(np.abs(then - score), kind="stable")[:8]
    expected = score + (end - then)[nearest]
    assert ends(curve(float(score)), [curve(*map(float, each)) for each in drawn]).tolist() == expected.tolist()
