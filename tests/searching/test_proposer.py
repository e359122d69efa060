"""Proposals lie in the space, learn from what they are told, and are the same after a resume."""

import warnings
from dataclasses import replace
from pkgutil import iter_modules
from unittest.mock import patch

import optuna
import pytest

from autopeft.objectives import objectives_named
from autopeft.plan import SAMPLERS, Plan
from autopeft.searching import samplers
from autopeft.searching.proposer import Proposal, Proposer, default_params
from autopeft.space.parameters import Recalled
from autopeft.space.space import Space, load_space
from autopeft.trial import Costs, Outcome, Rung, Status, Trial

OBJECTIVES = objectives_named(("score", "memory", "trainable"))
SPACE = load_space("default")


def finished(number: int, proposal: Proposal, accuracy: float = 0.5, trainable: int = 10) -> Trial:
    costs = Costs(trainable, 100, 4 * trainable, 1000)
    curve = (Rung(1, 1, accuracy, 0.02, 0.1, 1.0),)
    return Trial(
        number, proposal.candidate, costs, proposal.params, 0, Status.FINISHED, curve, Outcome(Status.FINISHED)
    )


def proposer(sampler: str = "tpe", space: Space = SPACE) -> Proposer:
    return Proposer(space, OBJECTIVES, sampler, seed=3)


def test_a_sampler_is_a_file_of_its_folder() -> None:
    assert set(SAMPLERS) >= {Plan.sampler, "tpe", "nsga2", "gp", "random"}
    assert set(SAMPLERS) == {name for _, name, package in iter_modules(samplers.__path__) if not package}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_proposes_candidates_of_the_space_and_learns_of_each_end(sampler: str) -> None:
    space = SPACE if sampler != "gp" else SPACE.only(("lora", "bitfit"))
    mine = proposer(sampler, space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for number in range(24):
            proposal = mine.propose()
            assert space.draw(Recalled(proposal.params)) == proposal.candidate
            trial = finished(number, proposal, accuracy=number / 30)
            if number % 3 == 0:
                mine.turn_away(proposal, {"memory": 0.5})
            elif number % 3 == 1:
                mine.tell(replace(trial, status=Status.FAILED, outcome=Outcome(Status.FAILED, "x")))
            else:
                mine.tell(trial)
    states = [trial.state.name for trial in mine.study.trials]
    assert (states.count("PRUNED"), states.count("FAIL"), states.count("COMPLETE")) == (8, 8, 8)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("resumed", [False, True])
def test_a_lost_trial_teaches_no_sampler_and_may_be_proposed_again(sampler: str, resumed: bool) -> None:
    mine = proposer(sampler)
    proposal = mine.propose()
    lost = replace(finished(1, proposal), status=Status.LOST, outcome=Outcome(Status.LOST, "the worker was lost"))
    if resumed:
        mine = proposer(sampler)
        mine.recall(lost)
    else:
        mine.reach(lost)
        mine.tell(lost)
    assert [trial.state.name for trial in mine.study.trials] == ["FAIL"], "Optuna's samplers look at no such trial"
    with patch.object(type(mine._sampler), "choose", return_value=None) as choose:
        mine.propose()
    told, pending = choose.call_args.args
    assert not told
    assert not pending


def test_known_good_candidates_come_first_in_their_order() -> None:
    mine = proposer()
    kinds = (*SPACE.methods, *SPACE.hybrids)
    for kind in kinds:
        mine.begin_with(default_params(SPACE, kind))
    assert [mine.propose().candidate for _ in kinds] == [SPACE.defaults(kind) for kind in kinds]


def test_a_recalled_trial_teaches_what_the_told_one_taught() -> None:
    told, recalled = proposer(), proposer()
    trials = []
    for number in range(5):
        proposal = told.propose()
        trials.append(finished(number, proposal, number / 10))
        told.tell(trials[-1])
    for trial in trials:
        recalled.recall(trial)
    for one, other in zip(told.study.trials, recalled.study.trials, strict=True):
        assert (one.state, one.values, one.params) == (other.state, other.values, other.params)
        assert one.distributions == other.distributions


def test_what_is_taken_up_again_is_awaited_like_any_proposal_and_then_told() -> None:
    mine, again = proposer(), proposer()
    begun = mine.propose()
    trial = finished(1, begun)
    again.take_up(replace(trial, status=Status.TRAINING, outcome=None))
    assert [each.state.name for each in again.study.trials] == ["RUNNING"]
    again.tell(trial)
    mine.tell(trial)
    for one, other in zip(mine.study.trials, again.study.trials, strict=True):
        assert (one.state, one.values, one.params, one.distributions) == (
            *(other.state, other.values, other.params, other.distributions),
        )


def test_a_sampler_learns_where_the_budget_ends() -> None:
    space = SPACE.only(("lora",))
    mine = proposer(space=space)

    def excess(proposal: Proposal) -> float:
        return float(str(proposal.params["lora.rank"])) / 4 - 1

    kept = []
    for number in range(60):
        proposal = mine.propose()
        kept.append(excess(proposal) <= 0)
        if kept[-1]:
            mine.tell(finished(number, proposal))
        else:
            mine.turn_away(proposal, {"memory": excess(proposal)})
    assert sum(kept[30:]) > sum(kept[:30])


def test_of_several_that_were_drawn_alike_each_is_answered_once() -> None:
    mine = proposer(space=SPACE.only(("bitfit",)))
    for _ in range(3):
        mine.begin_with(default_params(SPACE, "bitfit"))
    proposals = [mine.propose() for _ in range(3)]
    mine.tell(finished(2, proposals[1], 0.7))
    mine.turn_away(proposals[2], {"memory": 0.5})
    assert [each.state.name for each in mine.study.trials] == ["COMPLETE", "PRUNED", "RUNNING"]
    mine.tell(finished(1, proposals[0], 0.6))
    assert [each.values and each.values[0] for each in mine.study.trials] == [0.7, None, 0.6]
