"""Who is trained on, as a table: trials are (accuracies at rungs, costs); what has all three rungs is finished."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.objectives import Objective, objectives_named, score_of
from autopeft.search.stopping import Stopping
from autopeft.trial import Costs, Rung, Status, Trial
from tests.search.toys import trial

OBJECTIVES = objectives_named(("score", "memory", "trainable"))
RUNGS = 3


def at(number: int, accuracies: list[float], trainable: int = 10, memory: int = 100) -> Trial:
    curve = tuple(Rung(step, RUNGS, value, 0.02, 1.0, float(step)) for step, value in enumerate(accuracies, 1))
    status = Status.FINISHED if len(curve) == RUNGS else Status.TRAINING
    return replace(trial(number), status=status, curve=curve, predicted=Costs(trainable, memory, 4 * trainable, 1))


def goes_on(trial: Trial, others: list[Trial], objectives: Sequence[Objective]) -> bool:
    stopping = Stopping(objectives)
    for other in others:
        stopping.learn(other)
    return stopping.goes_on(trial)


def turned(trial: Trial) -> Trial:
    return replace(trial, curve=tuple(replace(rung, score=-rung.score) for rung in trial.curve))


def gaining(*gains: float, trainable: int = 10, memory: int = 100, start: float = 0.6) -> list[Trial]:
    """Finished trials that gained so much after the first rung, half of it by the second."""
    return [
        at(number, [start, start + gain / 2, start + gain], trainable, memory) for number, gain in enumerate(gains, 2)
    ]


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        pytest.param(at(1, [0.1]), [], True, id="alone"),
        pytest.param(at(1, [0.1]), gaining(0.2, 0.2), True, id="two ends tell too little"),
        pytest.param(at(1, [0.1]), gaining(0.2, 0.2, 0.2), False, id="hopeless"),
        pytest.param(at(1, [0.6]), gaining(0.2, 0.2, 0.2), True, id="as good as the best"),
        pytest.param(at(1, [0.55]), gaining(0.1, 0.1, 0.2, 0.2), False, id="what the quickest gained is not enough"),
        pytest.param(at(1, [0.64]), gaining(0.1, 0.1, 0.1, 0.2), False, id="one in four gained enough"),
        pytest.param(at(1, [0.61]), gaining(*[0.0] * 6, 0.2, 0.2), False, id="two in eight gained enough"),
        pytest.param(at(1, [0.61]), gaining(*[0.0] * 5, 0.2, 0.2, 0.2), True, id="three in eight gained enough"),
        pytest.param(at(1, [0.61]), gaining(0.0, 0.0, 0.2, 0.2), True, id="one in two gained enough"),
        pytest.param(at(1, [0.1], trainable=9), gaining(0.2, 0.2, 0.2), True, id="smaller"),
        pytest.param(at(1, [0.1], memory=99), gaining(0.2, 0.2, 0.2), True, id="needs less memory"),
        pytest.param(at(1, [0.1], memory=99, trainable=99), gaining(0.2, 0.2, 0.2), True, id="larger, less memory"),
        pytest.param(at(1, [0.1], memory=101), gaining(0.2, 0.2, 0.2), False, id="dearer"),
        pytest.param(at(1, [0.65, 0.65]), gaining(0.2, 0.2, 0.2), False, id="fell behind at the second rung"),
        pytest.param(at(1, [0.5, 0.7]), gaining(0.2, 0.2, 0.2), True, id="caught up at the second rung"),
        pytest.param(at(1, [0.6]), [*gaining(0.2, 0.2, 0.2), at(9, [0.1, 0.1, math.nan])], True, id="beside no number"),
        pytest.param(at(1, [0.1, 0.1, 0.1]), gaining(0.2, 0.2, 0.2), True, id="at its end"),
    ],
)
def test_a_trial_goes_on_while_it_may_end_above_all_that_cost_no_more(
    mine: Trial, others: list[Trial], expected: bool
) -> None:
    assert goes_on(mine, others, OBJECTIVES) is expected
    assert goes_on(mine, [*others[::-1], mine], OBJECTIVES) is expected
    lossy = (score_of("loss", "loss", higher_is_better=False, ideal=None), *OBJECTIVES[1:])
    assert goes_on(turned(mine), [turned(each) for each in others], lossy) is expected, "the same of a loss"


@pytest.mark.parametrize("status", [Status.TRAINING, Status.STOPPED, Status.FAILED])
def test_only_what_finished_is_a_measure(status: Status) -> None:
    others = [replace(each, status=status) for each in gaining(0.2, 0.2, 0.2)]
    assert goes_on(at(1, [0.1]), others, OBJECTIVES)


def test_gains_are_those_of_the_eight_that_were_nearest_at_the_rung() -> None:
    slow = gaining(*[0.4] * 8, start=0.3)
    quick = [replace(each, number=each.number + 10) for each in gaining(*[0.02] * 8, start=0.7)]
    assert goes_on(at(1, [0.33]), [*slow, *quick], OBJECTIVES)
    assert not goes_on(at(1, [0.68]), [*slow, *quick], OBJECTIVES)


def test_trainings_too_short_for_all_rungs_are_rivals_but_tell_nothing_of_gains() -> None:
    short = Rung(2, 2, 0.9, 0.02, 1.0, 2.0)
    others = [replace(at(number, []), status=Status.FINISHED, curve=(short,)) for number in range(2, 9)]
    assert goes_on(at(1, [0.1, 0.2]), others, OBJECTIVES)
    dearer = [replace(each, number=each.number + 10) for each in gaining(0.1, 0.1, 0.1, trainable=11)]
    assert not goes_on(at(1, [0.1, 0.2]), [*others, *dearer], OBJECTIVES)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(1, 5), st.integers(1, 5)), max_size=30),
    st.floats(0, 1),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_what_nothing_cheaper_has_beaten_is_never_stopped(
    drawn: list[tuple[float, float, int, int]], accuracy: float, cost: int, memory: int
) -> None:
    others = [at(number, [first, first, last], *costs) for number, (first, last, *costs) in enumerate(drawn, 2)]
    mine = at(1, [accuracy], cost, memory)
    dearer = [each for each in others if each.predicted.trainable > cost or each.predicted.memory > memory]
    assert goes_on(mine, dearer, OBJECTIVES)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_accuracy_never_stops_a_trial_among_equal_gains(
    drawn: list[tuple[float, float]], one: float, other: float
) -> None:
    others = [at(number, [first, first, first + 0.1]) for number, (first, _) in enumerate(drawn, 2)]
    low, high = sorted((one, other))
    if goes_on(at(1, [low]), others, OBJECTIVES):
        assert goes_on(at(1, [high]), others, OBJECTIVES)


def test_without_cheap_objectives_all_trials_are_compared() -> None:
    assert not goes_on(at(1, [0.1], trainable=1), gaining(0.2, 0.2, 0.2), OBJECTIVES[:1])
