"""Who is trained on, as a table: trials are (accuracies at rungs, costs); what has all three rungs is finished."""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopeft.objectives import Objective, objectives_named, score_of
from autopeft.searching.stopping import Stopping
from autopeft.trial import Costs, Rung, Status, Trial
from tests.searching.toys import trial

OBJECTIVES = objectives_named(("score", "memory", "trainable"))
RUNGS = 3


def at(number: int, accuracies: Sequence[float], trainable: int = 10, memory: int = 100, seconds: float = 1.0) -> Trial:
    """Each rung takes so many seconds."""
    curve = tuple(Rung(step, RUNGS, value, 0.01, 1.0, seconds * step) for step, value in enumerate(accuracies, 1))
    status = Status.FINISHED if len(curve) == RUNGS else Status.TRAINING
    return replace(trial(number), status=status, curve=curve, predicted=Costs(trainable, memory, 4 * trainable, 1))


def turned(trial: Trial) -> Trial:
    return replace(trial, curve=tuple(replace(rung, score=-rung.score) for rung in trial.curve))


def gaining(*gains: float, trainable: int = 10, memory: int = 100, start: float = 0.6) -> list[Trial]:
    """Finished trials that gained so much after the first rung, half of it by the second."""
    return [
        at(number, [start, start + gain / 2, start + gain], trainable, memory) for number, gain in enumerate(gains, 2)
    ]


def goes_on(
    mine: Trial,
    others: Iterable[Trial],
    objectives: Sequence[Objective] = OBJECTIVES,
    trivial: float | None = None,
) -> bool:
    stopping = Stopping(objectives, trivial)
    for known in (*others, mine):
        stopping.learn(known)
    return stopping.goes_on(mine)


ALIKE = gaining(*[0.2] * 6)
APART = gaining(0.0, 0.05, 0.1, 0.15, 0.2)
ENDS_OF_THE_SCALE = [at(50, [0.1] * 3, trainable=1, memory=10), at(51, [0.1] * 3, trainable=100, memory=1000)]


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        pytest.param(at(1, [0.1]), [], True, id="alone"),
        pytest.param(at(1, [0.1]), gaining(0.2, 0.2), True, id="two ends tell too little"),
        pytest.param(at(1, [0.1]), [*ALIKE, *ENDS_OF_THE_SCALE], False, id="hopeless"),
        pytest.param(at(1, [0.7]), [*ALIKE, *ENDS_OF_THE_SCALE], True, id="ahead of the best"),
        pytest.param(at(1, [0.6]), [*ALIKE, *ENDS_OF_THE_SCALE], False, id="the same again"),
        pytest.param(at(1, [0.55]), [*ALIKE, *ENDS_OF_THE_SCALE], False, id="others gained alike, and have more"),
        pytest.param(at(1, [0.6]), APART, False, id="as the others, of whom one in five ended so high"),
        pytest.param(at(1, [0.7]), APART, True, id="others gained more or less, but it has more"),
        pytest.param(at(1, [0.1], trainable=2, memory=50), [*ALIKE, ENDS_OF_THE_SCALE[1]], True, id="cheap, not bad"),
        pytest.param(at(1, [0.0], trainable=2, memory=50), [*ALIKE, *ENDS_OF_THE_SCALE], False, id="cheap, but bad"),
        pytest.param(at(1, [0.3], trainable=2, memory=50), [*ALIKE, *ENDS_OF_THE_SCALE], True, id="cheap, and fair"),
        pytest.param(at(1, [0.3], memory=99), [*ALIKE, *ENDS_OF_THE_SCALE], False, id="hardly cheaper, and bad"),
        pytest.param(at(1, [0.3], memory=999), [*ALIKE, *ENDS_OF_THE_SCALE], False, id="dearer, and bad"),
        pytest.param(at(1, [0.7, 0.6]), [*ALIKE, *ENDS_OF_THE_SCALE], False, id="fell behind at the second rung"),
        pytest.param(at(1, [0.5, 0.8]), [*ALIKE, *ENDS_OF_THE_SCALE], True, id="caught up at the second rung"),
        pytest.param(at(1, [0.7]), [*ALIKE, at(9, [0.1, 0.1, math.nan])], True, id="beside no number"),
        pytest.param(at(1, [0.1, 0.1, 0.1]), ALIKE, True, id="at its end"),
    ],
)
def test_a_trial_goes_on_while_it_may_add_enough_to_the_front(mine: Trial, others: list[Trial], expected: bool) -> None:
    assert goes_on(mine, others) is expected
    assert goes_on(mine, others[::-1]) is expected
    gain = (score_of("gain", "gain", ideal=None), *OBJECTIVES[1:])
    loss = (score_of("loss", "loss", higher_is_better=False, ideal=None), *OBJECTIVES[1:])
    assert goes_on(mine, others, gain, trivial=0.0) is expected
    assert goes_on(turned(mine), [turned(each) for each in others], loss, trivial=0.0) is expected, "the same of a loss"


@pytest.mark.parametrize("status", [Status.TRAINING, Status.STOPPED, Status.FAILED])
def test_only_what_finished_is_a_measure(status: Status) -> None:
    assert goes_on(at(1, [0.1]), [replace(each, status=status) for each in ALIKE])


def test_what_takes_long_for_little_is_stopped_where_the_quick_go_on() -> None:
    steps = range(2, 10)
    others = [at(number, [number / 20, number / 20, number / 20 + 0.2 + (-1) ** number / 50]) for number in steps]
    assert goes_on(at(1, [0.46], seconds=1), others)
    assert not goes_on(at(1, [0.46], seconds=1000), others)


def test_an_early_search_is_choosier_than_a_long_one() -> None:
    few, many = gaining(*[0.2, 0.22, 0.18] * 2), gaining(*[0.2, 0.22, 0.18] * 60)
    decided = [(goes_on(at(1, [start]), few), goes_on(at(1, [start]), many)) for start in (0.6, 0.61, 0.62, 0.63, 0.64)]
    assert (False, True) in decided
    assert (True, False) not in decided


def test_a_cheap_trial_may_end_lower_than_a_dear_one() -> None:
    dear = [at(number, [0.6, 0.7, 0.8], trainable=1000) for number in range(2, 8)]
    cheap = [at(number, [0.3, 0.4, 0.5], trainable=10) for number in range(8, 14)]
    assert goes_on(at(1, [0.45], trainable=11), [*dear, *cheap])
    assert not goes_on(at(1, [0.45], trainable=1000), [*dear, *cheap])


def test_a_trial_begun_again_is_not_counted_twice() -> None:
    once, twice = Stopping(OBJECTIVES), Stopping(OBJECTIVES)
    for each in ALIKE:
        once.learn(each)
        for upto in range(1, RUNGS + 1):
            twice.learn(replace(each, curve=each.curve[:upto], status=Status.TRAINING))
        twice.learn(each)
    starts = [0.6 + step / 500 for step in range(20)]
    for start in starts:
        assert once.goes_on(at(1, [start])) is twice.goes_on(at(1, [start]))


def test_a_search_for_low_costs_alone_trains_what_nothing_is_cheaper_than() -> None:
    costs = objectives_named(("memory", "trainable"))
    assert not goes_on(at(1, [0.9], trainable=11), ALIKE, costs)
    assert goes_on(at(1, [0.1], trainable=5), [*ALIKE, *ENDS_OF_THE_SCALE[1:], at(60, [0.1] * 3, 1, 200)], costs)


def test_without_costs_all_trials_are_compared() -> None:
    assert not goes_on(at(1, [0.1], trainable=1), ALIKE, OBJECTIVES[:1])
    assert goes_on(at(1, [0.7], trainable=1), ALIKE, OBJECTIVES[:1])


def test_costs_that_nobody_knows_do_not_stand_in_the_way() -> None:
    overhead = objectives_named(("score", "overhead"))
    assert goes_on(at(1, [0.7]), ALIKE, overhead)
    assert not goes_on(at(1, [0.1]), ALIKE, overhead)


def test_scores_without_errors_are_compared_as_they_are() -> None:
    def silent(each: Trial) -> Trial:
        return replace(each, curve=tuple(replace(rung, error=math.nan) for rung in each.curve))

    assert goes_on(silent(at(1, [0.7])), map(silent, ALIKE))
    assert not goes_on(silent(at(1, [0.55])), map(silent, ALIKE))


drawn = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5), st.integers(1, 5)), max_size=20)


@given(drawn, st.floats(0, 1), st.floats(0, 1), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=50)
def test_a_higher_accuracy_never_stops_a_trial_among_equal_gains(
    others: list[tuple[float, int, int]], one: float, other: float, trainable: int, memory: int
) -> None:
    known = [at(number, [start, start, start + 0.1], *costs) for number, (start, *costs) in enumerate(others, 2)]
    low, high = sorted((one, other))
    if goes_on(at(1, [low], trainable, memory), known):
        assert goes_on(at(1, [high], trainable, memory), known)


@given(drawn, st.floats(0, 1), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_a_resumed_search_decides_as_one_that_was_never_interrupted(
    others: list[tuple[float, int, int]], start: float, rng: random.Random
) -> None:
    known = [at(number, [first, first, first + 0.1], *costs) for number, (first, *costs) in enumerate(others, 2)]
    expected = goes_on(at(1, [start]), known)
    rng.shuffle(known)
    assert goes_on(at(1, [start]), known) is expected


def test_where_rungs_tell_little_a_trial_goes_on_that_may_well_become_the_best_for_its_costs() -> None:
    ends = (0.5, 0.9, 0.6, 0.8, 0.55, 0.85, 0.65, 0.75)
    others = [at(number, [0.5 + number / 1000, 0.5, end]) for number, end in enumerate(ends, 2)]
    assert goes_on(at(1, [0.7]), others)
    assert not goes_on(at(1, [0.5]), others)
    assert goes_on(at(1, [0.1], trainable=9), others), "nothing cheaper is known"
