"""The driver's decisions: what is trained next, what is turned away, what is remembered, when it ends."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from autopeft.errors import AutopeftError, CannotAttach
from autopeft.events import Event, GivenAgain, TrialBegan, TrialEnded, TurnedAway
from autopeft.plan import Budget, Plan
from autopeft.searching.driver import MOST_TOO_LONG_IN_A_ROW, NEEDS_TOO_MUCH, Driver, SecondsToRung
from autopeft.searching.finder import Finder
from autopeft.searching.ledger import OUT_OF_MEMORY, OUT_OF_TIME, STOPPED_EARLY
from autopeft.searching.proposer import Proposer, default_params
from autopeft.space.candidate import Candidate
from autopeft.space.space import load_space
from autopeft.storage.repository import Repository
from autopeft.trial import Costs, Outcome, Rung, SearchRecord, Status, Trial

SPACE = load_space("quick").only(("lora", "adapter"))
PLAN = Plan("model", "data.csv", trials=4)


def predict(candidate: Candidate) -> Costs:
    """LoRA of rank r costs r; an adapter of bottleneck b costs b; memory is ten times that."""
    settings = candidate.parts[0].settings
    size = int(str(settings.get("rank") or settings["bottleneck"]))
    return Costs(size, 10 * size, 4 * size, 1)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with Repository(f"sqlite:///{tmp_path}/searches.db") as opened:
        yield opened


class Sitting:
    """A driver with its record in the database, and the events that it told."""

    def __init__(
        self,
        repository: Repository,
        plan: Plan = PLAN,
        limits: dict[str, int] | None = None,
        resumed: bool = False,
        predict: Callable[[Candidate], Costs] = predict,
        seconds: SecondsToRung = lambda *_: None,
    ) -> None:
        self.repository = repository
        if not resumed:
            repository.create(SearchRecord("mine", plan, datetime.now(UTC)))
        record = repository.load("mine")
        self.events: list[Event] = []
        self.proposer = Proposer(SPACE, record.objectives, "random", seed=len(record.trials))
        finder = Finder(self.proposer, predict, limits or {}, ahead=False)
        for trial in record.trials:
            if trial.outcome is None:
                self.proposer.take_up(trial)
        self.driver = Driver(record, finder, repository, self.events.append, seconds_to_rung=seconds)

    def finish(self, number: int, accuracy: float = 0.5) -> None:
        assert self.driver.rung(number, Rung(1, 1, accuracy, 0.02, 0.1, 1.0))
        self.driver.ended(number, Outcome(Status.FINISHED, seconds=1.0))


def test_trials_are_numbered_recorded_and_told_until_the_limit(repository: Repository) -> None:
    sitting = Sitting(repository)
    given = [sitting.driver.next() for _ in range(4)]
    assert [trial.number for trial in given if trial] == [1, 2, 3, 4]
    assert sitting.driver.next() is None
    for trial in given:
        assert trial is not None
        sitting.finish(trial.number, 0.1 * trial.number)
    kept = repository.load("mine").trials
    assert [trial.score for trial in kept] == [0.1, 0.2, pytest.approx(0.3), 0.4]
    assert all(trial.status is Status.FINISHED and trial.finished is not None for trial in kept)
    assert len({trial.seed for trial in kept}) == 4
    assert sum(isinstance(event, TrialBegan) for event in sitting.events) == 4
    assert sum(isinstance(event, TrialEnded) for event in sitting.events) == 4
    assert len(sitting.proposer.study.trials) == 4


def test_what_breaks_a_limit_is_turned_away_and_counts_as_no_trial(repository: Repository) -> None:
    sitting = Sitting(repository, replace(PLAN, trials=12), {"trainable": 8, "memory": 1000})
    given = [sitting.driver.next() for _ in range(12)]
    assert all(trial is not None and trial.predicted.trainable <= 8 for trial in given)
    away = sum(isinstance(event, TurnedAway) for event in sitting.events)
    assert away > 0
    assert repository.load("mine").turned_away == {"trainable": away}
    pruned = [trial for trial in sitting.proposer.study.trials if trial.state.name == "PRUNED"]
    assert len(pruned) == away
    assert all(trial.constraints["trainable"] > 0 for trial in pruned)


def test_a_failed_trial_is_remembered_and_the_proposer_hears_of_it(repository: Repository) -> None:
    sitting = Sitting(repository)
    trial = sitting.driver.next()
    assert trial is not None
    sitting.driver.ended(trial.number, Outcome(Status.FAILED, "out of memory"))
    (kept,) = repository.load("mine").trials
    assert kept.outcome is not None
    assert (kept.status, kept.outcome.reason) == (Status.FAILED, "out of memory")
    assert sitting.proposer.study.trials[0].state.name == "FAIL"


def _of_memory(sitting: Sitting, *needed: int) -> list[Trial]:
    """The next trials, which need so much."""
    for memory in needed:
        sitting.proposer.begin_with({**default_params(SPACE, "lora"), "lora.rank": memory // 10})
    trials = [trial for trial in (sitting.driver.next() for _ in needed) if trial is not None]
    assert [trial.predicted.memory for trial in trials] == list(needed)
    return trials


def run_out(sitting: Sitting, trial: Trial, device_memory: int, part: float = 1.0) -> None:
    facts = {"device_memory": device_memory, "device_part": part}
    sitting.driver.ended(trial.number, Outcome(Status.FAILED, OUT_OF_MEMORY, facts=facts))


def test_where_a_trial_ran_out_of_memory_nothing_that_needs_as_much_is_trained_again(repository: Repository) -> None:
    sitting = Sitting(repository, replace(PLAN, trials=20))
    for trial in iter(sitting.driver.next, None):
        if trial.predicted.memory >= 100:
            break
        sitting.finish(trial.number)
    run_out(sitting, trial, 4000)
    assert repository.load("mine").facts["memory_correction"] == {
        "factor": 4000 / trial.predicted.memory,
        "ran_out": trial.predicted.memory,
    }
    assert not repository.load("mine").turned_away
    later = list(iter(sitting.driver.next, None))
    assert len(later) == 20 - trial.number
    assert all(each.predicted.memory < trial.predicted.memory for each in later)
    assert repository.load("mine").turned_away["memory"] > 0


def test_running_out_of_memory_lowers_the_limit_of_the_budget_after_a_resume_too(repository: Repository) -> None:
    plan = replace(PLAN, trials=12, budget=Budget(memory=400))
    first = Sitting(repository, plan, {"memory": 400})
    dear, unfinished, cheap = _of_memory(first, 160, 80, 40)
    run_out(first, dear, 640)
    assert repository.load("mine").facts["memory_correction"]["factor"] == 2.5, "400 were allowed"

    second = Sitting(repository, plan, {"memory": 400}, resumed=True)
    later = list(iter(second.driver.next, None))
    assert all(trial.predicted.memory < 160 for trial in later)
    assert dear.number not in {trial.number for trial in later}, "what ran out is not retried"
    assert {unfinished.number, cheap.number} <= {trial.number for trial in later}
    assert repository.load("mine").facts["memory_correction"]["factor"] == 2.5


def test_what_an_earlier_sitting_left_unfinished_is_not_trained_where_memory_will_not_do(
    repository: Repository,
) -> None:
    plan = replace(PLAN, trials=12)
    first = Sitting(repository, plan)
    dear, dearer = _of_memory(first, 80, 160)
    run_out(first, dear, 80)

    second = Sitting(repository, plan, resumed=True)
    assert all(trial.predicted.memory < 80 for trial in iter(second.driver.next, None))
    kept = {trial.number: trial for trial in repository.load("mine").trials}
    assert kept[dearer.number].outcome == Outcome(Status.FAILED, NEEDS_TOO_MUCH)
    assert kept[dear.number].outcome is not None
    assert kept[dear.number].outcome.reason == OUT_OF_MEMORY
    assert len(kept) == 12


LOST = Outcome(Status.LOST, "the worker was lost: killed", seconds=1.0)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_lost_trial_is_given_again_once_as_it_was_and_then_it_is_lost_and_teaches_nothing(
    repository: Repository, resumed: bool
) -> None:
    sitting = Sitting(repository, replace(PLAN, trials=2))
    one, two = sitting.driver.next(), sitting.driver.next()
    assert one is not None
    assert two is not None
    assert sitting.driver.next() is None
    assert sitting.driver.rung(one.number, Rung(1, 2, 0.4, 0.02, 0.1, 1.0))
    sitting.driver.ended(one.number, LOST)
    assert [event.why for event in sitting.events if isinstance(event, GivenAgain)] == [LOST.reason]
    (kept, _) = repository.load("mine").trials
    assert (kept.status, len(kept.curve), kept.outcome) == (Status.TRAINING, 1, None)
    sitting.finish(two.number)
    if resumed:
        sitting = Sitting(repository, replace(PLAN, trials=2), resumed=True)
    again = sitting.driver.next()
    assert again is not None
    assert (again.number, again.candidate, again.seed, again.alone) == (one.number, one.candidate, one.seed, False)
    assert sitting.driver.next() is None
    sitting.driver.ended(again.number, LOST)
    assert sitting.driver.next() is None
    (kept, finished) = repository.load("mine").trials
    assert (kept.status, kept.outcome, finished.status) == (Status.LOST, LOST, Status.FINISHED)
    assert [trial for trial in sitting.proposer._told if trial.number == one.number] == []


def test_a_lost_trial_is_given_again_before_anything_new_and_may_finish(repository: Repository) -> None:
    sitting = Sitting(repository)
    (one, two) = (sitting.driver.next(), sitting.driver.next())
    assert one is not None
    assert two is not None
    sitting.driver.ended(one.number, LOST)
    given = [sitting.driver.next() for _ in range(4)]
    assert [trial.number if trial else None for trial in given] == [1, 3, 4, None]
    for number in (1, 2, 3, 4):
        sitting.finish(number)
    assert [trial.status for trial in repository.load("mine").trials] == [Status.FINISHED] * 4
    assert len(sitting.proposer.study.trials) == 4


def test_when_time_is_up_a_lost_trial_stays_lost(repository: Repository) -> None:
    sitting = Sitting(repository, Plan("model", "data.csv", time=100))
    trial = sitting.driver.next()
    assert trial is not None
    with patch.object(Driver, "seconds", 101.0):
        sitting.driver.ended(trial.number, LOST)
    assert repository.load("mine").trials[0].status is Status.LOST


def test_time_counts_also_where_no_trial_ended(repository: Repository) -> None:
    sitting = Sitting(repository, Plan("model", "data.csv", time=100))
    trial = sitting.driver.next()
    assert trial is not None
    with patch.object(Driver, "seconds", 41.0):
        assert sitting.driver.rung(trial.number, Rung(1, 3, 0.5, 0.02, 0.1, 1.0))
    assert repository.load("mine").facts["seconds"] == 41.0, "as it would be after a kill"
    with patch.object(Driver, "seconds", 85.0):
        sitting.driver.remember_time()
    assert Sitting(repository, resumed=True).driver.seconds == pytest.approx(85.0, abs=5)


@pytest.mark.parametrize("resumed", [False, True])
def test_running_out_of_memory_beside_others_teaches_nothing_until_the_trial_runs_out_alone(
    repository: Repository, resumed: bool
) -> None:
    plan = replace(PLAN, trials=12)
    sitting = Sitting(repository, plan)
    (dear, other) = _of_memory(sitting, 160, 320)
    run_out(sitting, dear, 8000, part=1 / 8)
    assert "memory_correction" not in repository.load("mine").facts
    if resumed:
        sitting = Sitting(repository, plan, resumed=True)
    again = sitting.driver.next()
    assert again is not None
    assert (again.number, again.alone) == (dear.number, True)
    if resumed:
        assert sitting.driver.next() is not None, "the other"
    sitting.finish(other.number)
    assert "memory_correction" not in repository.load("mine").facts, "dearer ones may be trained meanwhile"
    run_out(sitting, again, 8000)
    assert repository.load("mine").facts["memory_correction"] == {"factor": 50, "ran_out": 160}
    assert all(trial.predicted.memory < 160 for trial in iter(sitting.driver.next, None))


def test_a_trial_that_ran_out_of_memory_beside_others_may_finish_alone(repository: Repository) -> None:
    sitting = Sitting(repository)
    (dear,) = _of_memory(sitting, 160)
    run_out(sitting, dear, 8000, part=1 / 8)
    again = sitting.driver.next()
    assert again is not None
    sitting.finish(again.number)
    record = repository.load("mine")
    assert record.trials[0].status is Status.FINISHED
    assert "memory_correction" not in record.facts


def test_what_others_left_of_a_device_is_what_was_allowed(repository: Repository) -> None:
    sitting = Sitting(repository)
    (dear,) = _of_memory(sitting, 160)
    facts = {"device_memory": 8000, "memory_allowed": 400, "device_part": 1.0}
    sitting.driver.ended(dear.number, Outcome(Status.FAILED, OUT_OF_MEMORY, facts=facts))
    assert repository.load("mine").facts["memory_correction"]["factor"] == 2.5


def test_when_memory_never_does_the_search_says_what_limit_came_of_it(repository: Repository) -> None:
    sitting = Sitting(repository)
    (cheapest,) = _of_memory(sitting, 10)
    run_out(sitting, cheapest, 4000)
    patient = patch("autopeft.searching.driver.MOST_TURNED_AWAY_IN_A_ROW", 20)
    with (
        patient,
        pytest.raises(AutopeftError, match=r"its limit on memory \(9 B since trials ran out of it\); give more"),
    ):
        sitting.driver.next()


def test_after_a_resume_unfinished_trials_come_first_and_no_finished_one_again(repository: Repository) -> None:
    first = Sitting(repository)
    one, two, three = (first.driver.next() for _ in range(3))
    assert one is not None
    assert two is not None
    assert three is not None
    first.finish(one.number)
    first.driver.rung(two.number, Rung(1, 2, 0.4, 0.02, 0.1, 1.0))

    second = Sitting(repository, resumed=True)
    again = [second.driver.next() for _ in range(4)]
    assert [trial.number if trial else None for trial in again] == [2, 3, 4, None]
    assert again[0] is not None
    assert (again[0].candidate, again[0].seed, len(again[0].curve)) == (two.candidate, two.seed, 1)
    for number in (2, 3, 4):
        second.finish(number)
    kept = repository.load("mine").trials
    assert [trial.number for trial in kept] == [1, 2, 3, 4]
    assert all(trial.status is Status.FINISHED and len(trial.curve) == 1 for trial in kept)
    assert kept[0].finished == repository.load("mine").trials[0].finished


@pytest.mark.parametrize(("steps", "left"), [((2, 6), (1, 2, 6)), ((1, 2), (1, 2)), ((6,), (1, 2, 6)), ((1,), (1,))])
def test_the_curve_of_a_trial_that_goes_on_ends_where_it_goes_on_from(
    repository: Repository, steps: tuple[int, ...], left: tuple[int, ...]
) -> None:
    def rung(step: int) -> Rung:
        return Rung(step, 6, 0.1 * step, 0.02, 0.1, 1.0)

    first = Sitting(repository)
    trial = first.driver.next()
    assert trial is not None
    for step in (1, 2):
        first.driver.rung(trial.number, rung(step))
    second = Sitting(repository, resumed=True)
    again = second.driver.next()
    assert again is not None
    assert [each.step for each in again.curve] == [1, 2]
    for step in steps:
        second.driver.rung(trial.number, rung(step))
    (kept,) = repository.load("mine").trials
    assert [each.step for each in kept.curve] == [*left]


class Clock:
    """Both clocks of `time`, which stand still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 5e8 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("autopeft.searching.driver.time", clock)
    return clock


TIMED = Plan("model", "data.csv", time=100)


def test_a_trial_is_told_when_the_time_of_the_search_is_over(repository: Repository, clock: Clock) -> None:
    sitting = Sitting(repository, TIMED)
    clock.now += 30
    trial = sitting.driver.next()
    assert trial is not None
    assert trial.until == clock.time() + 70
    assert Sitting(repository, replace(TIMED, time=None, trials=4), resumed=True).driver.next() is not None


@pytest.mark.parametrize(("passed", "begins"), [(0, True), (60, True), (61, False)])
def test_nothing_is_begun_or_gone_on_with_that_cannot_reach_a_rung_in_the_time_that_is_left(
    repository: Repository, clock: Clock, passed: float, begins: bool
) -> None:
    first = Sitting(repository, TIMED, seconds=lambda *_: 40.0)
    trial = first.driver.next()
    assert trial is not None
    for resumed in (True, False):
        sitting = Sitting(repository, TIMED, resumed=True, seconds=lambda *_: 40.0)
        if not resumed:
            sitting.driver._unfinished.clear()
        clock.now += passed
        assert (sitting.driver.next() is not None) == begins
        clock.now -= passed
    away = repository.load("mine").turned_away
    assert away == ({} if begins else {"time": 2 * MOST_TOO_LONG_IN_A_ROW})
    numbers = [each.number for each in repository.load("mine").trials]
    assert numbers == ([1, 2] if begins else [1])


def test_when_the_time_is_over_nothing_more_is_looked_at(repository: Repository, clock: Clock) -> None:
    def slowly(*_: object) -> float:
        clock.now += 30
        return 1000.0

    sitting = Sitting(repository, TIMED, seconds=slowly)
    assert sitting.driver.next() is None
    assert repository.load("mine").turned_away == {"time": 4}


def test_a_quicker_candidate_is_begun_where_another_would_take_too_long(repository: Repository, clock: Clock) -> None:
    slow = iter([41.0, 41.0, 39.0])
    sitting = Sitting(repository, TIMED, seconds=lambda *_: next(slow))
    clock.now += 60
    assert sitting.driver.next() is not None
    assert repository.load("mine").turned_away == {"time": 2}


def test_a_trial_that_time_ended_is_stopped_at_its_last_rung_and_one_without_a_rung_is_left_unfinished(
    repository: Repository, clock: Clock
) -> None:
    sitting = Sitting(repository, TIMED)
    one, two = sitting.driver.next(), sitting.driver.next()
    assert one is not None
    assert two is not None
    sitting.driver.rung(one.number, Rung(1, 9, 0.4, 0.02, 0.1, 1.0, artifact="mine/0001"))
    clock.now += 100
    for trial in (one, two):
        sitting.driver.ended(trial.number, Outcome(Status.STOPPED, OUT_OF_TIME))
    assert sitting.driver.next() is None
    stopped, unfinished = repository.load("mine").trials
    assert (stopped.status, stopped.is_model, stopped.share) == (Status.STOPPED, True, 1 / 9)
    assert (unfinished.status, unfinished.outcome) == (Status.TRAINING, None)
    more = Sitting(repository, TIMED, resumed=True).driver
    clock.now -= 50
    again = more.next()
    assert again is not None
    assert again.number == two.number


def test_a_trial_that_went_on_from_a_rung_took_at_least_as_long_as_its_training(repository: Repository) -> None:
    sitting = Sitting(repository)
    went_on, whole = sitting.driver.next(), sitting.driver.next()
    assert went_on is not None
    assert whole is not None
    for trial in (went_on, whole):
        sitting.driver.rung(trial.number, Rung(6, 18, 0.4, 0.02, 0.1, 300.0))
    sitting.driver.ended(went_on.number, Outcome(Status.STOPPED, STOPPED_EARLY, seconds=12.0))
    sitting.driver.ended(whole.number, Outcome(Status.STOPPED, STOPPED_EARLY, seconds=312.0))
    took = [trial.outcome.seconds for trial in repository.load("mine").trials if trial.outcome]
    assert took == [300.0, 312.0]


def test_no_trial_begins_after_the_time_limit_and_earlier_sittings_count(repository: Repository) -> None:
    plan = Plan("model", "data.csv", time=100)
    sitting = Sitting(repository, plan)
    trial = sitting.driver.next()
    assert trial is not None
    sitting.finish(trial.number)
    repository.update("mine", facts={"seconds": 101.0})
    assert Sitting(repository, plan, resumed=True).driver.next() is None


def test_when_nothing_fits_any_more_the_search_says_so(repository: Repository) -> None:
    sitting = Sitting(repository, limits={"trainable": 0.5})  # type: ignore[dict-item]
    with pytest.raises(AutopeftError, match=r"1000 candidates in a row broke the budget, .* limit on trainable"):
        sitting.driver.next()


def test_a_candidate_that_cannot_be_attached_is_turned_away(repository: Repository) -> None:
    def refuse_adapters(candidate: Candidate) -> Costs:
        if candidate.name == "adapter":
            raise CannotAttach("no place for it")
        return predict(candidate)

    sitting = Sitting(repository, predict=refuse_adapters)
    given = [sitting.driver.next() for _ in range(4)]
    assert all(trial is not None and trial.candidate.name == "lora" for trial in given)


@pytest.mark.parametrize("resumed", [False, True])
def test_rungs_and_ends_teach_the_proposer_also_of_trials_that_an_earlier_sitting_proposed(
    repository: Repository, resumed: bool
) -> None:
    sitting, rung = Sitting(repository), Rung(1, 1, 0.5, 0.02, 0.5, 1.0)
    begun = sitting.driver.next()
    if resumed:
        sitting = Sitting(repository, resumed=True)
        begun = sitting.driver.next()
    assert begun is not None
    with patch.object(sitting.proposer, "reach", wraps=sitting.proposer.reach) as reach:
        sitting.driver.rung(begun.number, rung)
    ((seen,), _) = reach.call_args
    assert (seen.number, seen.params, seen.curve) == (begun.number, begun.params, (rung,))
    assert [each.state.name for each in sitting.proposer.study.trials] == ["RUNNING"]
    sitting.driver.ended(begun.number, Outcome(Status.FINISHED, seconds=1.0))
    (taught,) = sitting.proposer.study.trials
    assert (taught.state.name, taught.params) == ("COMPLETE", dict(begun.params))


def test_what_is_spent_is_the_greater_part_of_trials_and_time(repository: Repository) -> None:
    sitting = Sitting(repository, replace(PLAN, trials=4, time=100.0))
    driver = sitting.driver
    spent = []
    for seconds in (0.0, 10.0, 90.0, 200.0):
        driver.next()
        with patch.object(Driver, "seconds", seconds):
            spent.append(driver.spent)
    assert spent == pytest.approx([0.25, 0.5, 0.9, 1.0])


def test_nothing_is_spent_of_what_has_no_limit(repository: Repository) -> None:
    driver = Sitting(repository, replace(PLAN, trials=None, time=100.0)).driver
    driver.next()
    with patch.object(Driver, "seconds", 20.0):
        assert driver.spent == pytest.approx(0.2)
