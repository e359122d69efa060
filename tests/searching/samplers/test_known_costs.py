"""The sampler that knows costs: keeps limits by itself, learns, repeats itself, and goes on after a resume."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from statistics import mean
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from autopeft.errors import CannotAttach
from autopeft.objectives import ACCURACY, COSTS, Objective, objectives_named, score_of, time_of
from autopeft.searching.proposer import Proposer, default_params
from autopeft.searching.samplers.parts.drawing import Drawn
from autopeft.searching.samplers.parts.features import Array
from autopeft.searching.samplers.parts.gains import Gains
from autopeft.searching.samplers.parts.improvement import budgets_between
from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Recalled
from autopeft.space.space import load_space
from autopeft.trial import Costs, Outcome, Rung, Status, Trial
from tests.sampled import sampled

OBJECTIVES = objectives_named(("score", "memory", "trainable"))
SPACE = load_space("quick")
SIZES = {"lora": "rank", "adapter": "bottleneck", "prompt_tuning": "length"}


def predict(candidate: Candidate) -> Costs:
    """Something that grows with ranks, bottlenecks and lengths."""
    size = sum(float(str(part.settings.get(SIZES.get(part.method, ""), 1))) for part in candidate.parts)
    return Costs(int(1000 * size), int(1_000_000 * (10 + size)), int(4000 * size), 1)


def learned(candidate: Candidate) -> float:
    """Best for LoRA at a learning rate of 8e-3; larger is a little better."""
    part = candidate.parts[0]
    quality = 0.9 if part.method == "lora" else 0.7
    off = abs(math.log10(part.learning_rate / 8e-3))
    return quality - 0.2 * min(off, 1) + 0.01 * min(predict(candidate).trainable / 64_000, 1)


def trial(number: int, params: Mapping[str, Any], candidate: Candidate, status: Status = Status.FINISHED) -> Trial:
    accuracy = learned(candidate)
    curve = [
        Rung(1, 9, accuracy - 0.1, 0.02, 1.0, 1.0),
        Rung(3, 9, accuracy - 0.05, 0.02, 1.0, 3.0),
        Rung(9, 9, accuracy, 0.02, 1.0, 9.0),
    ]
    shown = curve if status is Status.FINISHED else curve[:1] if status is Status.STOPPED else []
    return Trial(number, candidate, predict(candidate), params, 0, status, tuple(shown), Outcome(status))


def proposer(
    seed: int = 1, limits: Mapping[str, int] | None = None, objectives: tuple[Objective, ...] = OBJECTIVES
) -> Proposer:
    mine = Proposer(SPACE, objectives, "known_costs", seed, predict, limits or {})
    for kind in SPACE.methods:
        mine.begin_with(default_params(SPACE, kind))
    return mine


def searched(mine: Proposer, trials: int, first: int = 1) -> list[Trial]:
    done = []
    for number in range(first, first + trials):
        proposal = mine.propose()
        status = (Status.FINISHED, Status.FINISHED, Status.STOPPED, Status.FAILED)[number % 4]
        done.append(trial(number, proposal.params, proposal.candidate, status))
        mine.tell(done[-1])
    return done


def test_it_proposes_what_it_learned_to_be_good() -> None:
    done = [each.candidate for each in searched(proposer(), 24)]
    early, late = done[:12], done[12:]
    assert sum(each.parts[0].method == "lora" for each in late) >= 7
    assert mean(map(learned, late)) > mean(map(learned, early)) + 0.04


def test_the_same_seed_proposes_the_same_and_another_seed_does_not() -> None:
    one, same, other = (searched(proposer(seed), 10) for seed in (1, 1, 2))
    assert [each.params for each in one] == [each.params for each in same]
    assert [each.params for each in one] != [each.params for each in other]


def resumed(trials: list[Trial], seed: int = 1, knowing: Proposer | None = None) -> Proposer:
    """Told again of trials; costs that another one predicted in passing are known only there, unless they are given."""
    mine = Proposer(SPACE, OBJECTIVES, "known_costs", seed, predict)
    for each in trials:
        mine.recall(each)
    if knowing is not None:
        mine._sampler._prices = deepcopy(knowing._sampler._prices)
    return mine


@pytest.mark.parametrize("count", [7, 9, 12])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_a_resume_it_goes_on_from_what_it_is_told_again(seed: int, count: int) -> None:
    told = proposer(seed)
    trials = searched(told, count)
    assert resumed(trials, seed, knowing=told).propose().params == told.propose().params


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_a_resume_it_proposes_nothing_that_is_trained_again(seed: int) -> None:
    told = proposer(seed)
    trials = searched(told, 9)
    unfinished = told.propose()
    recalled = resumed(trials, seed, knowing=told)
    recalled.take_up(trial(10, unfinished.params, unfinished.candidate, Status.TRAINING))
    assert recalled.propose().params == told.propose().params != unfinished.params


def test_after_a_resume_it_still_proposes_what_it_learned_to_be_good() -> None:
    before = searched(proposer(), 12)
    after = searched(resumed(before), 12, first=13)
    assert not [each for each in after if each.params in [other.params for other in before]]
    early, late = ([each.candidate for each in some] for some in (before, after))
    assert sum(each.parts[0].method == "lora" for each in late) >= 7
    assert mean(map(learned, late)) > mean(map(learned, early)) + 0.04


def test_proposals_keep_all_limits_and_are_never_repeated() -> None:
    limits = {"trainable": 20_000, "memory": 30_000_000}
    mine = proposer(limits=limits)
    trials = searched(mine, 20)[len(SPACE.methods) :]
    assert not any(each.predicted.excesses(limits) for each in trials)
    assert len({str(sorted(each.params.items())) for each in trials}) == len(trials)


@pytest.mark.parametrize(
    ("limits", "names"),
    sampled([{}, {"memory": 60_000_000}, {"trainable": 50_000}], ["score memory trainable", "score trainable"]),
)
def test_proposals_keep_limits_that_are_tightened_on_the_way(limits: dict[str, int], names: str) -> None:
    mine = proposer(limits=limits, objectives=objectives_named(tuple(names.split())))
    early = searched(mine, 12)
    tightened = {**limits, "memory": 25_999_999}
    assert any(each.predicted.memory > 25_999_999 for each in early)
    mine.keep(tightened)
    late = searched(mine, 12, first=13)
    assert not any(each.predicted.excesses(tightened) for each in late)
    assert len({str(sorted(each.params.items())) for each in (*early, *late)}) == 24


def test_what_needs_a_byte_more_than_a_limit_is_not_proposed() -> None:
    def predict_large(candidate: Candidate) -> Costs:
        return Costs(predict(candidate).trainable, 40 * 2**30, 1, 1)

    mine = Proposer(SPACE, OBJECTIVES, "known_costs", 1, predict_large)
    for kind in SPACE.methods:
        mine.begin_with(default_params(SPACE, kind))
    searched(mine, 8)
    mine.keep({"memory": 40 * 2**30 - 1})
    assert mine._sampler.choose(mine._told, []) is None


def test_before_there_are_results_it_goes_on_with_what_is_known_to_be_good_and_keeps_all_limits() -> None:
    mine = Proposer(SPACE, OBJECTIVES, "known_costs", 1, predict)
    known_good = [default_params(SPACE, kind) for kind in SPACE.methods]
    mine.begin(known_good)
    mine.keep({"memory": 15_000_000})
    first = [mine.propose().params for _ in range(3)]
    affordable = [each for each in known_good[3:] if predict(SPACE.draw(Recalled(each))).memory <= 15_000_000]
    assert first == known_good[:3]
    assert len(affordable) < len(known_good[3:])
    assert [mine.propose().params for _ in affordable] == affordable


def test_pending_proposals_are_not_proposed_again() -> None:
    mine = proposer()
    searched(mine, 8)
    pending = [mine.propose() for _ in range(4)]
    assert len({str(sorted(each.params.items())) for each in pending}) == 4


def test_where_many_wait_several_are_proposed_at_once_and_none_repeats_another() -> None:
    mine = proposer()
    searched(mine, 8)
    with patch("autopeft.searching.samplers.known_costs.Gains", side_effect=Gains) as model:
        pending = [mine.propose() for _ in range(40)]
    assert model.call_count <= len(pending) / 2
    assert len({str(sorted(each.params.items())) for each in pending}) == 40


def test_limits_that_are_tightened_hold_for_what_was_to_be_proposed_at_once() -> None:
    mine = proposer()
    searched(mine, 8)
    for _ in range(17):
        mine.propose()
    mine.keep({"memory": 20_000_000})
    assert all(predict(mine.propose().candidate).memory <= 20_000_000 for _ in range(4))


def test_rungs_of_trials_under_way_teach_it() -> None:
    """Of all trials that are being trained, prompt tuning shows by far the most."""
    mine = proposer(objectives=objectives_named(("score",)))
    searched(mine, 3)
    begun = [mine.propose() for _ in SPACE.methods[3:]]
    for number, proposal in enumerate(begun, 4):
        accuracy = 0.99 if proposal.candidate.name == "prompt_tuning" else 0.6
        costs, curve = predict(proposal.candidate), (Rung(3, 9, accuracy, 0.02, 1.0, 3.0),)
        mine.reach(Trial(number, proposal.candidate, costs, proposal.params, 0, curve=curve))
    names = [mine.propose().candidate.name for _ in range(8)]
    assert names.count("prompt_tuning") >= 6


def test_what_is_stopped_early_again_and_again_is_given_up() -> None:
    """One LoRA was lucky and ended at 0.9; all others are at 0.7 after a rung that adds 0.1 until the end."""
    mine, names = proposer(objectives=objectives_named(("score", "trainable"))), list[str]()
    for number in range(1, 31):
        proposal = mine.propose()
        name, costs = proposal.candidate.name, predict(proposal.candidate)
        stopped = name == "lora" and name in names
        first = 0.7 if stopped else 0.8 if name == "lora" else 0.76
        curve = (
            Rung(1, 9, first, 0.02, 1.0, 1.0),
            Rung(3, 9, first + 0.05, 0.02, 1.0, 3.0),
            Rung(9, 9, first + 0.1, 0.02, 1.0, 9.0),
        )
        status = Status.STOPPED if stopped else Status.FINISHED
        shown = curve[:1] if stopped else curve
        names.append(name)
        mine.tell(
            Trial(number, proposal.candidate, costs, proposal.params, 0, status, shown, Outcome(status)),
        )
    assert names[20:].count("lora") <= 5


def test_where_trials_failed_it_proposes_less() -> None:
    def loras(fail: bool) -> int:
        mine, names = proposer(), list[str]()
        for number in range(1, 27):
            proposal = mine.propose()
            names.append(proposal.candidate.name)
            failed = fail and names[-1] in ("lora", "lora_parallel")
            status = Status.FAILED if failed else Status.FINISHED
            mine.tell(trial(number, proposal.params, proposal.candidate, status))
        return sum(name in ("lora", "lora_parallel") for name in names)

    assert loras(fail=True) <= 5
    assert loras(fail=False) >= 15


@pytest.mark.parametrize("limits", [{}, {"memory": 40_000_000}])
def test_it_thinks_of_budgets_up_to_the_dearest_that_may_be_trained(limits: Mapping[str, int]) -> None:
    ranges = []

    def noting(costs: Array, rng: np.random.Generator) -> Array:
        ranges.append(np.expm1(costs).max(axis=0))
        return budgets_between(costs, rng)

    with patch("autopeft.searching.samplers.known_costs.budgets_between", noting):
        searched(proposer(limits=limits), 16)
    rng = np.random.default_rng(0)
    drawn = [predict(SPACE.draw(Drawn(rng))) for _ in range(400)]
    memory, trainable = (max(each.value(cost.name) for each in drawn) for cost in OBJECTIVES[1:])
    assert ranges[-1] == pytest.approx([limits.get("memory", memory), trainable])


def test_a_method_that_always_fails_is_left_alone_however_cheap_it_is() -> None:
    def cheap(candidate: Candidate) -> Costs:
        costs = predict(candidate)
        if candidate.name != "prompt_tuning":
            return costs
        return replace(costs, trainable=costs.trainable // 100, memory=costs.memory // 100)

    mine, names = Proposer(SPACE, OBJECTIVES, "known_costs", 1, cheap), list[str]()
    for kind in SPACE.methods:
        mine.begin_with(default_params(SPACE, kind))
    for number in range(1, 25):
        proposal = mine.propose()
        names.append(proposal.candidate.name)
        status = Status.FAILED if names[-1] == "prompt_tuning" else Status.FINISHED
        done = trial(number, proposal.params, proposal.candidate, status)
        mine.tell(replace(done, predicted=cheap(proposal.candidate)))
    assert names.count("prompt_tuning") <= 10


def test_what_cannot_be_attached_is_not_proposed() -> None:
    def refusing(candidate: Candidate) -> Costs:
        if candidate.name == "lora_parallel":
            raise CannotAttach("no")
        return predict(candidate)

    mine = Proposer(SPACE, OBJECTIVES, "known_costs", 1, refusing)
    for kind in SPACE.methods:
        mine.begin_with(default_params(SPACE, kind))
    assert all(each.candidate.name != "lora_parallel" for each in searched(mine, 16)[len(SPACE.methods) :])


@pytest.mark.parametrize("objectives", [("score",), ("memory", "trainable"), ("score", "stored")])
def test_any_objectives_will_do(objectives: tuple[str, ...]) -> None:
    assert len(searched(proposer(objectives=objectives_named(objectives)), 10)) == 10


def test_a_loss_is_searched_for_as_an_accuracy_is() -> None:
    """What is proposed follows from gains, whatever the scores are called and counted in; those of fractions from 0."""

    def lossy(trial: Trial) -> Trial:
        return replace(trial, curve=tuple(replace(rung, score=30 - 20 * rung.score) for rung in trial.curve))

    loss = score_of("loss", "loss", higher_is_better=False, ideal=None)
    found = []
    for metric, seen, trivial in ((ACCURACY, lambda each: each, 0.5), (loss, lossy, 30.0)):
        mine = Proposer(SPACE, (metric, *OBJECTIVES[1:]), "known_costs", 1, predict, {}, trivial)
        for kind in SPACE.methods:
            mine.begin_with(default_params(SPACE, kind))
        done = []
        for number in range(1, 13):
            proposal = mine.propose()
            done.append(trial(number, proposal.params, proposal.candidate))
            mine.tell(seen(done[-1]))
        found.append([each.params for each in done])
    assert found[0] == found[1]


@pytest.mark.parametrize("sampler", ["known_costs", "tpe"])
@pytest.mark.parametrize("metric", [ACCURACY, score_of("loss", "loss", higher_is_better=False, ideal=None)])
def test_a_score_that_is_no_number_teaches_what_a_failure_teaches(sampler: str, metric: Objective) -> None:
    """Such as a correlation with answers that are all alike."""
    mine = Proposer(SPACE, (metric, *OBJECTIVES[1:]), sampler, 1, predict)
    for kind in SPACE.methods:
        mine.begin_with(default_params(SPACE, kind))
    for number in range(1, 11):
        proposal = mine.propose()
        done = trial(number, proposal.params, proposal.candidate)
        if number % 3 == 0:
            done = replace(done, curve=(replace(done.curve[-1], score=math.nan),))
        mine.tell(done)
    assert mine.propose().params


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_samplers_of_optuna_are_told_the_direction(sampler: str) -> None:
    loss = score_of("loss", "loss", higher_is_better=False, ideal=None)
    directions = Proposer(SPACE, (loss, COSTS["memory"]), sampler, 1, predict).study.directions
    assert [each.name for each in directions] == ["MINIMIZE", "MINIMIZE"]


def test_before_there_is_anything_to_model_it_draws_at_random() -> None:
    mine = Proposer(SPACE, OBJECTIVES, "known_costs", 1, predict)
    assert len(searched(mine, 3)) == 3


def told_seconds(slow: str, spent: float, seed: int) -> Proposer:
    """One method takes thirty times as long as all others."""
    mine = Proposer(
        *(SPACE, OBJECTIVES, "known_costs", seed, predict),
        seconds=lambda candidate, _: 30.0 if candidate.parts[0].method == slow else 1.0,
        spent=lambda: spent,
    )
    for kind in SPACE.methods:
        mine.begin_with(default_params(SPACE, kind))
    return mine


def test_what_is_slow_is_proposed_later_than_what_promises_as_much_until_all_is_spent() -> None:
    slow = {}
    for spent in (0.0, 1.0):
        proposed = [
            each.candidate.parts[0].method
            for seed in (1, 2)
            for each in searched(told_seconds("lora", spent, seed), 12)[len(SPACE.methods) :]
        ]
        slow[spent] = proposed.count("lora")
    assert slow[0.0] < slow[1.0] / 2


def test_where_seconds_are_known_it_begins_with_more_of_what_is_known_to_be_good() -> None:
    known_good = [{**default_params(SPACE, "lora"), "lora.rank": rank} for rank in (1, 2, 4, 8, 16, 32)]
    proposed = []
    for seconds in (None, lambda candidate, costs: 1.0):  # noqa: ARG005
        mine = Proposer(SPACE, OBJECTIVES, "known_costs", 1, predict, seconds=seconds)
        mine.begin(known_good)
        proposed.append(mine._first)
    assert proposed == [3, 5]


def test_what_takes_longer_than_was_thought_is_not_proposed_again_and_again() -> None:
    """The finder turns away what breaks the limit by what is known now; the sampler has to know the same."""
    slow = {"factor": 1.0}

    def seconds(candidate: Candidate, _: Costs) -> float:
        return 80.0 * slow["factor"] if candidate.parts[0].method == "lora" else 20.0

    def timed(candidate: Candidate) -> Costs:
        costs = predict(candidate)
        return replace(costs, time=time_of(seconds(candidate, costs)))

    mine = Proposer(SPACE, OBJECTIVES, "known_costs", 1, timed, {"time": 90.0}, seconds=seconds)
    mine.begin([default_params(SPACE, kind) for kind in SPACE.methods])
    searched(mine, 9)
    slow["factor"] = 2.0
    for _ in range(6):
        proposal = mine.propose()
        assert timed(proposal.candidate).excesses({"time": 90.0}) == {}
        mine.turn_away(proposal, {"time": 1.0})
