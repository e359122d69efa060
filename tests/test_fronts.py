import math
import random
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from autopeft.errors import AutopeftError
from autopeft.fronts import Unbeaten, beaten, front, hypervolume, knee, latencies, select
from autopeft.objectives import ACCURACY, COSTS, Objective, objectives_named, score_of
from autopeft.plan import Budget
from autopeft.space.candidate import Candidate, Part
from autopeft.trial import Costs, Outcome, Rung, Status, Trial

LORA = Candidate("lora", (Part("lora"),))
MIB = 1024**2
ALL = (ACCURACY, *COSTS.values())
LOSS = score_of("rmse", "RMSE", higher_is_better=False, ideal=0.0)
ENDLESS = score_of("gain", "gain", ideal=None)


def named(*names: str) -> tuple[Objective, ...]:
    return objectives_named(names)


def trial(
    number: int,
    accuracy: float | None = 0.8,
    memory: int = 400,
    trainable: int = 1000,
    stored: int = 4000,
    flops: int = 10**9,
    overhead: float | None = 0.0,
    status: Status = Status.FINISHED,
    measured: int | None = None,
    latency: float | None = None,
    time: float | None = 60.0,
) -> Trial:
    costs = Costs(trainable, memory, stored, flops, overhead=overhead, time=time)
    seen = None if measured is None else replace(costs, memory=measured)
    curve = () if accuracy is None else (Rung(1, 1, accuracy, 0.02, 0.5, 1.0),)
    return Trial(
        number,
        LORA,
        costs,
        {},
        number,
        status,
        curve,
        Outcome(status, measured=seen, facts={} if latency is None else {"latency": latency}),
    )


def stopped(number: int, accuracy: float, status: Status = Status.STOPPED, kept: bool = True, **costs: int) -> Trial:
    """A trial that reached the first of nine rungs, whose weights were kept there or not."""
    rung = Rung(1, 9, accuracy, 0.02, 0.5, 1.0, artifact=f"mine/{number:04d}" if kept else "")
    ended = Outcome(status) if status is not Status.TRAINING else None
    return replace(trial(number, status=status, **costs), curve=(rung,), outcome=ended)


def test_what_was_stopped_is_on_the_front_where_its_weights_were_kept_and_nothing_beats_it() -> None:
    finished = trial(1, 0.8, memory=400 * MIB)
    cheaper, worse, no_weights = (
        stopped(2, 0.7, memory=100 * MIB),
        stopped(3, 0.7, memory=500 * MIB),
        stopped(4, 0.9, kept=False),
    )
    members = front([finished, cheaper, worse, no_weights], named("accuracy", "memory"))
    assert numbers(members) == [1, 2]
    assert (members[1].score, members[1].share) == (0.7, 1 / 9)
    assert select([finished, cheaper, no_weights], Budget(memory=200 * MIB)) is cheaper


@pytest.mark.parametrize("status", [Status.FAILED, Status.LOST])
def test_what_came_to_nothing_is_no_model_whatever_it_had_reached(status: Status) -> None:
    assert front([stopped(1, 0.9, status)], ALL) == ()
    assert not stopped(1, 0.9, status).artifact


def test_what_trains_still_is_on_the_front_but_neither_beats_nor_is_beaten() -> None:
    under_way = stopped(1, 0.9, Status.TRAINING)
    assert numbers(front([under_way, trial(2, 0.8)], ALL)) == [1]
    assert beaten([under_way, trial(2, 0.8), stopped(3, 0.7, Status.TRAINING)], ALL) == {}
    assert beaten([stopped(1, 0.9), trial(2, 0.8)], ALL) == {2: 1}


def numbers(trials: tuple[Trial, ...]) -> list[int]:
    return [each.number for each in trials]


small = st.integers(0, 4)
"""Few values, so that equal and dominated trials are frequent."""
accuracies = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.just(float("nan")), st.none())
some_objectives = st.lists(st.sampled_from(ALL), min_size=1, unique=True).map(tuple)


@st.composite
def searches(draw: st.DrawFn) -> tuple[Trial, ...]:
    return tuple(
        trial(
            number,
            draw(accuracies),
            *(draw(small) for _ in range(4)),
            draw(st.one_of(small, st.none())),
            status=draw(st.sampled_from([Status.FINISHED] * 4 + list(Status))),
            time=draw(st.one_of(small, st.none())),
        )
        for number in range(1, 1 + draw(st.integers(0, 12)))
    )


def counts(each: Trial, objectives: tuple[Objective, ...]) -> bool:
    known = each.score is not None and math.isfinite(each.score)
    priced = all(each.predicted.value(cost.name) < math.inf for cost in objectives if not cost.is_score)
    return each.status is Status.FINISHED and priced and (known or ACCURACY not in objectives)


def no_worse(one: Trial, other: Trial, objectives: tuple[Objective, ...]) -> bool:
    return all(each.sign * one.value(each.key) >= each.sign * other.value(each.key) for each in objectives)


@given(trials=searches(), objectives=some_objectives)
def test_no_member_of_a_front_is_covered_by_another_trial_and_every_other_trial_is_by_a_member(trials, objectives):
    members = front(trials, objectives)
    finished = [each for each in trials if counts(each, objectives)]
    assert set(numbers(members)) <= set(numbers(finished))
    for member in members:
        rivals = [each for each in finished if no_worse(each, member, objectives)]
        assert all(no_worse(member, each, objectives) and each.number >= member.number for each in rivals)
    for each in finished:
        assert any(no_worse(member, each, objectives) for member in members)


@given(trials=searches(), objectives=some_objectives, seed=st.integers(0, 99))
def test_a_front_depends_neither_on_the_order_of_trials_nor_of_objectives(trials, objectives, seed):
    shuffled = random.Random(seed).sample(trials, len(trials))
    assert front(shuffled, objectives[::-1]) == front(trials, objectives)
    assert numbers(front(shuffled, objectives)) == sorted(numbers(front(shuffled, objectives)))


@given(trials=searches(), objectives=some_objectives)
def test_the_front_of_a_front_is_itself(trials, objectives):
    members = front(trials, objectives)
    assert front(members, objectives) == members


def test_of_equal_trials_only_the_earliest_is_on_the_front():
    assert numbers(front((trial(3), trial(1), trial(2)), named("score", "memory"))) == [1]


def test_only_finished_trials_with_a_finite_accuracy_are_on_a_front_over_accuracy():
    trials = [trial(number, status=status) for number, status in enumerate(Status, 1)]
    trials += [trial(8, float("nan"), memory=1), trial(9, None, memory=2)]
    assert numbers(front(trials, named("score", "memory"))) == [2]
    assert numbers(front(trials, named("memory"))) == [8]


def test_there_is_no_front_without_trials():
    assert front((), named("score", "memory")) == ()
    assert knee((), named("score", "memory")) is None
    assert hypervolume((), named("score", "memory")) == 0


def test_an_unknown_objective_is_answered_with_the_nearest():
    with pytest.raises(AutopeftError, match=r"unknown objective 'memry'\. Did you mean 'memory'\?"):
        named("memry")
    with pytest.raises(AutopeftError, match=r"Did you mean 'trainable'\?"):
        select([trial(1)], Budget(), prefer="trainble")
    with pytest.raises(AutopeftError, match=r"Did you mean 'score'\?"):
        hypervolume([trial(1)], named("score"), {"scor": 0})


def random_trials(count: int, seed: int) -> list[Trial]:
    rng = np.random.default_rng(seed)
    costs = rng.integers(1, 1000, size=(count, 4)).tolist()
    return [trial(i, accuracy, *row) for i, (accuracy, row) in enumerate(zip(rng.random(count), costs, strict=True), 1)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 2, 9, 40])
@pytest.mark.parametrize("objectives", [ALL[:n] for n in range(1, 6)], ids=len)
def test_hypervolume_is_that_of_optuna_as_a_share_of_the_box(objectives, count, seed):
    trials = random_trials(count, seed)
    reference = {"score": 0.3, "memory": 900.0, "trainable": 800.0, "stored": 700.0, "flops": 1000.0}
    losses = np.array([[-each.sign * t.value(each.key) for each in objectives] for t in trials])
    corner = np.array([-each.sign * reference[each.key] for each in objectives])
    inside = losses[(losses < corner).all(1)]
    box = math.prod(0.7 if each.is_score else reference[each.key] for each in objectives)
    expected = compute_hypervolume(inside, corner) / box if len(inside) else 0.0
    assert hypervolume(trials, objectives, reference) == pytest.approx(expected, abs=1e-12)


def test_hypervolume_is_the_share_of_random_points_that_a_trial_dominates():
    trials, objectives = random_trials(12, 7), named("score", "memory", "trainable")
    rng = np.random.default_rng(0)
    drawn = rng.random((20_000, 3)) * [1, 1000, 1000]
    dominated = np.zeros(len(drawn), dtype=bool)
    for each in trials:
        accuracy, memory, trainable = (each.value(one.key) for one in objectives)
        dominated |= (drawn[:, 0] < accuracy) & (drawn[:, 1] > memory) & (drawn[:, 2] > trainable)
    reference = {"memory": 1000.0, "trainable": 1000.0}
    assert hypervolume(trials, objectives, reference) == pytest.approx(dominated.mean(), abs=0.015)


def test_hypervolume_by_hand():
    trials = [trial(1, 0.5, memory=25), trial(2, 0.75, memory=50), trial(3, 0.5, memory=60)]
    assert hypervolume(trials, named("score", "memory"), {"memory": 100}) == 0.5 * 0.75 + 0.25 * 0.5
    assert hypervolume(trials, named("score")) == 0.75
    assert hypervolume(trials, named("memory")) == pytest.approx(1 - 25 / 66)


@given(trials=searches(), objectives=some_objectives)
def test_another_trial_never_lowers_the_hypervolume_and_a_dominated_one_leaves_it_as_it_is(trials, objectives):
    reference = {"score": -0.25, "memory": 4, "trainable": 4, "stored": 4, "flops": 4, "overhead": 4, "time": 4}
    volumes = [hypervolume(trials[:count], objectives, reference) for count in range(len(trials) + 1)]
    assert all(0 <= one <= other + 1e-12 for one, other in pairwise(volumes))
    assert volumes[-1] <= 1
    assert hypervolume(front(trials, objectives), objectives, reference) == volumes[-1]


def test_costs_of_zero_have_a_hypervolume():
    assert hypervolume([trial(1, 0.5, trainable=0)], named("score", "trainable")) == 0.5


@pytest.mark.parametrize(
    ("reference", "asked"),
    [
        ({"score": 1.0}, "accuracy must be a number less than 1, not 1.0"),
        ({"memory": 0}, "memory must be a number greater than 0, not 0"),
        ({"memory": float("nan")}, "memory must be a number greater than 0, not nan"),
        ({"memory": float("inf")}, "memory must be a number greater than 0, not inf"),
    ],
)
def test_a_reference_that_is_no_worse_than_the_ideal_is_refused(reference, asked):
    with pytest.raises(AutopeftError, match=asked):
        hypervolume([trial(1)], named("score", "memory"), reference)


def test_the_knee_is_where_little_accuracy_is_given_for_much_memory():
    trials = [trial(1, 0.90, memory=800), trial(2, 0.88, memory=200), trial(3, 0.60, memory=100)]
    chosen = knee(trials, named("score", "memory"))
    assert chosen is not None
    assert chosen.number == 2


def test_the_knee_compares_costs_by_their_ratios():
    trials = [trial(1, 0.9, memory=10_000), trial(2, 0.8, memory=2000), trial(3, 0.7, memory=1)]
    chosen = knee(trials, named("score", "memory"))
    assert chosen is not None
    assert chosen.number == 1


def test_a_cost_of_nothing_is_no_better_than_a_cost_of_one():
    trials = [trial(1, 0.9, trainable=64), trial(2, 0.8, trainable=8), trial(3, 0.5, trainable=0)]
    chosen = knee(trials, named("score", "trainable"))
    assert chosen is not None
    assert chosen.number == 2


def test_the_knee_of_one_objective_is_the_best_trial_and_equal_trade_offs_are_the_earliest():
    assert numbers((knee([trial(1, 0.7), trial(2, 0.9), trial(3, 0.8)], named("score")),)) == [2]
    assert numbers((knee([trial(2, 0.9, memory=800), trial(1, 0.8, memory=400)], named("score", "memory")),)) == [1]


@given(trials=searches(), objectives=some_objectives)
def test_the_knee_is_a_member_of_the_front(trials, objectives):
    chosen = knee(trials, objectives)
    assert chosen in front(trials, objectives) if chosen else not front(trials, objectives)


def test_the_best_trial_under_limits_is_the_most_accurate_that_keeps_them():
    trials = [
        trial(1, 0.9, memory=800),
        trial(2, 0.8, memory=400),
        trial(3, 0.7, memory=400),
        trial(4, 0.6, memory=100),
    ]
    assert select(trials, Budget()).number == 1
    assert select(trials, Budget(memory=799)).number == 2
    assert select(trials, Budget(memory=400)).number == 2
    assert select(trials, Budget(score=0.65), prefer="memory").number == 2
    assert select(trials, Budget(), prefer="memory").number == 4


def test_among_equally_accurate_trials_the_cheaper_and_then_the_earlier_is_selected():
    assert select([trial(1, memory=500), trial(2), trial(3), trial(4, stored=4001)], Budget()).number == 2
    assert select([trial(1, 0.7), trial(2, 0.8)], Budget(), prefer="flops").number == 2


def test_a_measured_cost_above_the_limit_breaks_it_and_one_below_does_not_mend_it():
    trials = [trial(1, 0.9, memory=400, measured=402), trial(2, 0.8, memory=402, measured=400), trial(3, 0.7)]
    assert select(trials, Budget(memory=401)).number == 3
    assert select(trials, Budget(memory=402)).number == 1


def test_a_diverged_or_unfinished_trial_is_never_selected():
    trials = [
        trial(1, float("nan"), memory=1),
        trial(2, None, memory=1),
        trial(3, 0.9, status=Status.STOPPED),
        trial(4, 0.1),
    ]
    assert select(trials, Budget(), prefer="memory").number == 4


limited = st.builds(
    Budget,
    memory=st.none() | st.sampled_from(["1 B", "2 B", "3 B", "4 B"]),
    trainable=st.none() | st.integers(1, 4),
    stored=st.none() | st.sampled_from(["1 B", "2 B", "3 B", "4 B"]),
    flops=st.none() | st.integers(1, 4),
    score=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
)


def keeps(each: Trial, budget: Budget) -> bool:
    costs = all(each.value(name) <= limit for name, limit in budget.limits().items())
    return costs and each.value("score") >= (budget.score or 0)


@given(trials=searches(), budget=limited, preferred=st.sampled_from(ALL))
def test_the_selected_trial_keeps_all_limits_and_no_trial_that_does_is_better(trials, budget, preferred):
    prefer = preferred.key
    kept = [each for each in trials if counts(each, (ACCURACY, preferred)) and keeps(each, budget)]
    if not kept:
        with pytest.raises(AutopeftError, match=r"no trial keeps|no trial to select"):
            select(trials, budget, prefer=prefer)
        return
    chosen = select(trials, budget, prefer=prefer)
    assert chosen in kept
    assert all(no_worse(chosen, each, (preferred,)) for each in kept)
    assert chosen in front(kept, ALL) or None in (chosen.predicted.overhead, chosen.predicted.time)


@given(trials=searches(), budget=limited, preferred=st.sampled_from(ALL), wanted=st.sampled_from([ALL[:2], ALL[:3]]))
def test_who_is_beaten_is_neither_on_the_front_nor_selected_and_stays_beaten(trials, budget, preferred, wanted):
    for count in range(len(trials) + 1):
        gone = beaten(trials[:count], wanted)
        assert gone.keys() <= beaten(trials, wanted).keys()
    finished = {each.number: each for each in trials if counts(each, (ACCURACY,))}
    assert gone.keys() <= finished.keys()
    assert all(no_worse(finished[better], finished[number], ALL) for number, better in gone.items())
    assert not gone.keys() & {*gone.values()}
    assert not gone.keys() & {each.number for each in front(trials, wanted)}
    with suppress(AutopeftError):
        assert select(trials, budget, prefer=preferred.key).number not in gone


@given(trials=searches(), wanted=st.sampled_from([ALL[:2], ALL[:3]]), rng=st.randoms(use_true_random=False))
def test_trials_may_end_in_any_order_for_the_same_to_be_beaten(trials, wanted, rng):
    unbeaten = Unbeaten(wanted)
    gone = [number for each in rng.sample(trials, len(trials)) for number in unbeaten.add(each)]
    assert sorted(gone) == [*beaten(trials, wanted)]


def test_one_that_was_measured_to_need_less_is_not_beaten():
    trials = [trial(1, 0.8, measured=400), trial(2, 0.9, measured=402), trial(3, 0.8, measured=403)]
    assert beaten(trials, ALL[:2]) == {3: 2}
    assert select(trials, Budget(memory=401)).number == 1


def refused(trials: list[Trial], budget: Budget) -> str:
    with pytest.raises(AutopeftError) as caught:
        select(trials, budget)
    return str(caught.value)


def test_a_limit_that_excludes_every_trial_is_named_with_what_the_nearest_needs():
    trials = [trial(6, memory=800 * MIB), trial(7, memory=512 * MIB)]
    assert refused(trials, Budget(memory="256MiB", trainable="1M")) == (
        "no trial keeps memory at most 256 MiB. The nearest, trial 7 (lora), needs memory 512 MiB."
    )


def test_limits_that_exclude_every_trial_only_together_are_named_together():
    trials = [trial(1, 0.9, trainable=300_000), trial(2, 0.8, trainable=9000), trial(3, 0.95, trainable=900_000)]
    assert refused(trials, Budget(memory="1GiB", trainable="200k", score=0.85)) == (
        "no trial keeps trainable at most 200k and accuracy at least 0.85 together. "
        "The nearest, trial 2 (lora), reaches accuracy 0.8."
    )


def test_all_that_the_nearest_trial_breaks_is_told():
    assert refused([trial(1, 0.5, memory=2000, trainable=10)], Budget(memory=1000, trainable=9, score=0.6)) == (
        "no trial keeps memory at most 1000 B. "
        "The nearest, trial 1 (lora), needs memory 1.96 KiB, needs trainable 10 and reaches accuracy 0.5."
    )


def test_what_the_nearest_trial_needs_is_the_next_that_is_enough():
    with pytest.raises(AutopeftError, match=r"needs trainable 25\.8k\."):
        select([trial(1, 0.5, 10, 25_748)], Budget(trainable=1000))


@given(
    memory=st.integers(1000, 10**12),
    trainable=st.integers(10, 10**12),
    accuracy=st.floats(0, 0.999),
    share=st.floats(0.3, 0.999),
)
def test_what_the_nearest_trial_needs_is_enough_when_it_is_given(memory, trainable, accuracy, share):
    only = trial(1, accuracy, memory=memory, trainable=trainable)
    tight = Budget(memory=int(memory * share), trainable=int(trainable * share), score=1.0)
    told = refused([only], tight).split("(lora), ")[1].rstrip(".")
    asked = dict(part.split(" ", 2)[1:] for part in told.replace(" and ", ", ").split(", "))
    given_now = Budget(asked["memory"], asked["trainable"], score=float(asked["accuracy"]))
    assert select([only], given_now) is only


@pytest.mark.parametrize(
    ("trials", "told"),
    [
        ([], "none began"),
        ([trial(1, status=Status.TRAINING)], "1 training"),
        (
            [trial(1, None, status=Status.FAILED), trial(2, None, status=Status.FAILED), trial(3, float("nan"))],
            "2 failed, 1 finished",
        ),
    ],
)
def test_without_a_finished_trial_there_is_none_to_select(trials, told):
    assert refused(trials, Budget()) == f"there is no trial to select: none finished with a score ({told})."


def test_a_trial_that_was_timed_in_a_slow_moment_is_not_excluded() -> None:
    """Both were slower than the bare backbone by half; at most moments that takes 10 ms."""
    timed = [
        replace(each, outcome=replace(each.outcome, facts={"latency": 1.5 * bare, "latency_bare": bare}))
        for each, bare in ((trial(1, 0.9), 0.067), (trial(2, 0.8), 0.010), (trial(3, 0.7), 0.010))
        if each.outcome is not None
    ]
    assert latencies(timed) == pytest.approx({1: 0.015, 2: 0.015, 3: 0.015})
    assert select(timed, Budget(latency="20ms")).number == 1
    with pytest.raises(AutopeftError, match="needs latency 15 ms"):
        select(timed, Budget(latency="14ms"))


def test_select_keeps_limits_on_latency_and_overhead_and_says_what_is_needed() -> None:
    slow, quick = trial(1, 0.9, overhead=0.2, latency=0.030), trial(2, 0.8, overhead=0.0, latency=0.0105)
    unmeasured = trial(3, 0.95, overhead=None)
    trials = [slow, quick, unmeasured]
    assert select(trials, Budget()).number == 3
    assert select(trials, Budget(latency="20ms")).number == 2
    assert select(trials, Budget(latency=0.03)).number == 1
    assert select(trials, Budget(overhead="20%")).number == 1
    assert select(trials, Budget(overhead=0)).number == 2
    with pytest.raises(
        AutopeftError, match=r"keeps latency at most 5 ms\. The nearest, trial 2 .* needs latency 10\.5 ms"
    ):
        select(trials, Budget(latency="5ms"))
    with pytest.raises(
        AutopeftError, match=r"keeps overhead at most 0\.0%\. The nearest, trial 1 .* needs overhead 20\.0%"
    ):
        select([slow], Budget(overhead="0%"))


def test_of_a_loss_less_is_better_everywhere() -> None:
    trials = [
        trial(1, 0.9, memory=100),
        trial(2, 0.5, memory=400),
        trial(3, 0.4, memory=800),
        trial(4, 0.6, memory=900),
    ]
    both = (LOSS, COSTS["memory"])
    assert numbers(front(trials, both)) == [1, 2, 3]
    assert select(trials, Budget(), LOSS).number == 3
    assert select(trials, Budget(score=0.55), LOSS, prefer="memory").number == 2
    assert select(trials, Budget(), LOSS, prefer="rmse").number == 3
    assert hypervolume(trials, (LOSS,), {"score": 0.8}) == pytest.approx(0.5)
    assert hypervolume(trials, (LOSS,)) == pytest.approx(1 - 0.4 / 0.9), "from the worst of them"
    with pytest.raises(AutopeftError, match=r"rmse at most 0\.2\. The nearest, trial 3 \(lora\), reaches rmse 0\.4\."):
        select(trials, Budget(score=0.2), LOSS)
    with pytest.raises(AutopeftError, match=r"unknown objective 'accuracy'\..*rmse"):
        select(trials, Budget(), LOSS, prefer="accuracy")


def test_where_there_is_no_best_score_the_box_ends_at_the_best_that_was_seen() -> None:
    trials = [trial(1, 2.0, memory=100), trial(2, 6.0, memory=400)]
    assert hypervolume(trials, (ENDLESS,)) == 1.0
    assert hypervolume(trials, (ENDLESS, COSTS["memory"]), {"score": 0.0, "memory": 400}) == pytest.approx(0.25)
    assert hypervolume(trials, (ENDLESS,), {"score": 7.0}) == 0.0, "none is better"
    assert hypervolume(trials[:1], (ENDLESS,)) == 0.0, "nothing is known but one"


def test_a_score_beyond_the_best_there_is_is_refused() -> None:
    with pytest.raises(AutopeftError, match=r"accuracy is at most 1: no trial reaches 80; write it like 0\.9 or 90%"):
        select([trial(1)], Budget(score=80))
    assert select([trial(1)], Budget(score="80%")).number == 1


@pytest.mark.parametrize(
    ("score", "told"), [(0.8, "0.8"), (0.8274, "0.827"), (0.8275, "0.8275"), (0.698765, "0.69876"), (2 / 3, "0.66666")]
)
def test_a_score_is_told_so_that_it_does_as_a_limit_and_looks_like_the_one_that_is_shown(
    score: float, told: str
) -> None:
    with pytest.raises(AutopeftError, match=rf"reaches accuracy {told}\.$"):
        select([trial(1, score)], Budget(score=0.99))
    assert select([trial(1, score)], Budget(score=told)).number == 1
    assert f"{float(told):.3f}" == ACCURACY.show(score)
