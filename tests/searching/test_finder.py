"""Finding the next candidate: the same in the caller's thread and ahead of need."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from threading import Event, Timer, get_ident
from typing import Any

import pytest
from optuna.trial import TrialState

from autopeft.errors import AutopeftError, CannotAttach
from autopeft.objectives import objectives_named
from autopeft.searching.finder import Considered, Finder, Predict
from autopeft.searching.proposer import Proposer, default_params
from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Recalled
from autopeft.space.space import load_space
from autopeft.trial import Costs, Rung, Status, Trial

SPACE = load_space("quick").only(("lora", "adapter"))


def predict(candidate: Candidate) -> Costs:
    """LoRA of rank r costs r; an adapter cannot be attached."""
    if candidate.name == "adapter":
        raise CannotAttach("no place")
    rank = int(str(candidate.parts[0].settings["rank"]))
    return Costs(rank, 10 * rank, 4 * rank, 1)


@pytest.fixture(params=[False, True], ids=["here", "ahead"])
def finder(request: pytest.FixtureRequest) -> Iterator[Finder]:
    with closing(Finder(_proposer(), predict, {"trainable": 4}, ahead=request.param)) as finder:
        yield finder


def _proposer() -> Proposer:
    return Proposer(SPACE, objectives_named(("score", "memory", "trainable")), "random", seed=0)


def test_finding_ends_with_the_first_that_keeps_the_limits_and_tells_of_all_before(finder: Finder) -> None:
    rounds = [list(finder.find()) for _ in range(5)]
    for considered in rounds:
        assert not considered[-1].excess
        assert considered[-1].costs is not None
        assert considered[-1].costs.trainable <= 4
        assert all(each.excess for each in considered[:-1])
    everything = [each for considered in rounds for each in considered]
    assert {name for each in everything for name in each.excess} == {"trainable", "cannot attach"}


def test_both_ways_find_the_same() -> None:
    def found(ahead: bool) -> list[list[Considered]]:
        with closing(Finder(_proposer(), predict, {"trainable": 4}, ahead)) as finder:
            return [list(finder.find()) for _ in range(3)]

    assert found(True) == found(False)


def lora(rank: int) -> Mapping[str, Any]:
    return {**default_params(SPACE, "lora"), "lora.rank": rank}


def test_what_is_known_to_be_good_comes_first(finder: Finder) -> None:
    finder.begin(lambda _: [lora(4), lora(2), lora(1)], least=3, tried=[lora(2)])
    found = [list(finder.find())[-1].proposal.params for _ in range(2)]
    assert found == [lora(4), lora(1)]


def test_closing_does_not_wait_until_all_that_is_good_is_known() -> None:
    predicted, closing_now = list[Candidate](), Event()

    def slow(candidate: Candidate) -> Costs:
        predicted.append(candidate)
        assert closing_now.wait(10)
        return predict(candidate)

    def known_good(predict: Predict) -> list[Mapping[str, Any]]:
        for rank in (1, 2, 4, 8):
            predict(SPACE.draw(Recalled(lora(rank))))
        return [lora(1)]

    finder = Finder(_proposer(), slow, {}, ahead=True)
    finder.begin(known_good, least=0, tried=())
    while not predicted:
        time.sleep(0.01)
    Timer(0.1, closing_now.set).start()
    finder.close()
    assert len(predicted) == 1


def test_what_is_found_ahead_was_predicted_in_another_thread_before_it_was_asked_for() -> None:
    predicted = Event()
    threads = []

    def noting(_: Candidate) -> Costs:
        threads.append(get_ident())
        predicted.set()
        return Costs(1, 1, 1, 1)

    with closing(Finder(_proposer(), noting, {}, ahead=True)) as finder:
        finder.go_ahead()
        finder.go_ahead()
        assert predicted.wait(10)
        assert len(list(finder.find())) == 1
        assert len(threads) == 1
        assert threads[0] != get_ident()


def test_tightened_limits_hold_at_once_and_for_what_was_found_ahead(finder: Finder) -> None:
    first = [list(finder.find())[-1] for _ in range(8)]
    assert max(each.costs.memory for each in first if each.costs) == 40
    finder.go_ahead()
    finder.tighten({"memory": 30})
    later = [list(finder.find())[-1] for _ in range(8)]
    assert all(each.costs and each.costs.memory <= 30 and each.costs.trainable <= 4 for each in later)


def test_what_was_found_ahead_and_breaks_a_tightened_limit_is_turned_away() -> None:
    proposer = _proposer()
    predicted = Event()

    def noting(_: Candidate) -> Costs:
        predicted.set()
        return Costs(1, 9 if len(proposer.study.trials) == 1 else 3, 1, 1)

    with closing(Finder(proposer, noting, {}, ahead=True)) as finder:
        finder.go_ahead()
        assert predicted.wait(10)
        finder.tighten({"memory": 8})
        away, kept = finder.find()
    assert (away.excess, kept.excess) == ({"memory": 1 / 8}, {})
    assert [each.state for each in proposer.study.trials] == [TrialState.PRUNED, TrialState.RUNNING]


def test_a_fault_of_the_prediction_reaches_the_caller() -> None:
    def broken(_: Candidate) -> Costs:
        raise AutopeftError("no such model")

    for ahead in (False, True):
        with closing(Finder(_proposer(), broken, {}, ahead)) as faulty, pytest.raises(AutopeftError, match="no such"):
            list(faulty.find())


def test_closing_ends_a_search_for_something_that_never_fits() -> None:
    finder = Finder(_proposer(), lambda _: Costs(9, 9, 9, 9), {"trainable": 1}, ahead=True)
    finder.go_ahead()
    finder.close()


def test_outcomes_are_learned_before_the_next_proposal() -> None:
    proposer = _proposer()
    with closing(Finder(proposer, predict, {}, ahead=True)) as finder:
        (*_, first) = finder.find()
        assert first.costs is not None
        trial = Trial(1, first.proposal.candidate, first.costs, first.proposal.params, seed=0)
        finder.tell(replace(trial, status=Status.FINISHED, curve=(Rung(1, 1, 0.5, 0.02, 0.1, 1.0),)))
        list(finder.find())
    told, *_ = proposer.study.trials
    assert told.state is TrialState.COMPLETE
    assert told.values[0] == 0.5
