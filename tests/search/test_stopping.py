"""Who is trained on, as a table: trials are (accuracies at rungs, trainable parameters)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.search.stopping import by_chance, goes_on
from autopeft.trial import Costs, Rung, Status, Trial
from tests.search.toys import trial

OBJECTIVES = ("accuracy", "memory", "trainable")
MANY = 1_000_000


def at(number: int, accuracies: list[float], trainable: int = 10, memory: int = 100, rungs: int = 3) -> Trial:
    curve = tuple(Rung(step, rungs, value, 1.0, float(step)) for step, value in enumerate(accuracies, 1))
    return replace(trial(number), curve=curve, predicted=Costs(trainable, memory, 4 * trainable, 1))


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        (at(1, [0.1]), [], True),
        (at(1, [0.1]), [at(2, [0.9])], True),
        (at(1, [0.1]), [at(2, [0.9]), at(3, [0.8])], False),
        (at(1, [0.9]), [at(2, [0.9]), at(3, [0.8])], True),
        (at(1, [0.85]), [at(n, [0.8 + n / 100]) for n in range(2, 9)], False),
        (at(1, [0.88]), [at(n, [0.8 + n / 100]) for n in range(2, 10)], True),
        (at(1, [0.1], trainable=9), [at(2, [0.9]), at(3, [0.8])], True),
        (at(1, [0.1], memory=99), [at(2, [0.9]), at(3, [0.8])], True),
        (at(1, [0.1], trainable=11), [at(2, [0.9]), at(3, [0.8], memory=101)], True),
        (at(1, [0.9, 0.1]), [at(2, [0.5, 0.9]), at(3, [0.5, 0.8])], False),
        (at(1, [0.9, 0.1]), [at(2, [0.95]), at(3, [0.94])], True),
        (at(1, [0.1, 0.1, 0.1]), [at(2, [0.9] * 3), at(3, [0.8] * 3)], True),
        (at(1, [0.1]), [replace(at(n, [0.9]), status=Status.FAILED) for n in (2, 3)], True),
        (at(1, [0.1]), [replace(at(n, [0.9]), status=Status.STOPPED) for n in (2, 3)], False),
    ],
)
def test_the_best_third_among_trials_that_cost_no_more_goes_on(
    mine: Trial, others: list[Trial], expected: bool
) -> None:
    assert goes_on(mine, others, OBJECTIVES, MANY) is expected
    assert goes_on(mine, [*others[::-1], mine], OBJECTIVES, MANY) is expected


def test_what_chance_explains_stops_nobody() -> None:
    others = [at(2, [0.80]), at(3, [0.80])]
    assert by_chance(0.8, 200) == pytest.approx(0.04)
    assert goes_on(at(1, [0.77]), others, OBJECTIVES, 200)
    assert not goes_on(at(1, [0.75]), others, OBJECTIVES, 200)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=30))
def test_the_most_accurate_and_the_cheapest_always_go_on(drawn: list[tuple[float, int, int]]) -> None:
    trials = [at(number, [accuracy], cost, memory) for number, (accuracy, cost, memory) in enumerate(drawn)]
    best = max(trials, key=lambda each: each.curve[0].accuracy)
    cheapest = min(trials, key=lambda each: (each.predicted.trainable, each.predicted.memory))
    assert goes_on(best, trials, OBJECTIVES, MANY)
    alone = [each for each in trials if each.number == cheapest.number or each.predicted != cheapest.predicted]
    assert goes_on(cheapest, alone, OBJECTIVES, MANY)


def test_without_cheap_objectives_all_trials_are_compared() -> None:
    assert not goes_on(at(1, [0.1], trainable=1), [at(2, [0.9]), at(3, [0.8])], ("accuracy",), MANY)
