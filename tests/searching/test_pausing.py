"""What is kept of a trial at its rungs: any worker goes on from there, and it is a model already."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

import autopeft
from autopeft.events import Event, TrialBegan, TrialReported
from autopeft.plan import Plan
from autopeft.reports import render
from autopeft.searching.ledger import OUT_OF_TIME
from autopeft.searching.marks import MARK
from autopeft.searching.preparation import prepare
from autopeft.searching.whereabouts import state_of, weights_of
from autopeft.searching.worker import TrainingWorker
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.trial import Costs, Outcome, Rung, Status, Trial
from tests.user import user_folder

FISHMASK = Candidate(
    "fishmask+lora",
    (Part("fishmask", {"keep": 0.01, "samples": 32}, 1e-2), Part("lora", {"rank": 4, "dropout": 0.1}, 1e-2)),
    Training(batch_size=16, micro_batch_size=8, epochs=2),
)


def trial(number: int, **more: Any) -> Trial:
    return Trial(number, FISHMASK, Costs(1, 1, 1, 1), {}, seed=5, **more)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def new_worker(user: Path) -> Callable[[], TrainingWorker]:
    plan = Plan(str(user / "model"), str(user / "reviews.csv"), space="quick", max_length=16)
    job = prepare(plan, user / "runs", "mine", lambda _: None).job
    job.artifacts.mkdir(parents=True)
    (job.artifacts / MARK).write_text("mine")
    return job


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.name} {name}": each for file in folder.rglob("*.safetensors") for name, each in load_file(file).items()
    }


def equal(one: Path, other: Path) -> bool:
    mine, its = weights(one), weights(other)
    return bool(mine) and mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def told(items: list[Rung | Outcome]) -> list[tuple[int, float, float]]:
    return [(each.step, each.score, each.loss) for each in items if isinstance(each, Rung)]


def test_another_worker_goes_on_from_the_last_rung_and_ends_as_if_nothing_had_happened(
    new_worker: Callable[[], TrainingWorker],
) -> None:
    worker = new_worker()
    folder = worker._job.artifacts
    *unbroken, whole = worker.train(trial(1))
    assert isinstance(whole, Outcome)
    interrupted = worker.train(trial(2))
    first = next(interrupted)
    interrupted.close()  # type: ignore[attr-defined]
    assert isinstance(first, Rung)
    assert first.artifact == "mine/0002"
    assert state_of(folder, 2).is_file()
    assert len(autopeft.load(weights_of(folder, 2)).predict(["the film was good"])) == 1
    with patch("autopeft.searching.worker.set_up", side_effect=AssertionError("calibrated once more")):
        *resumed, last = new_worker().train(trial(2, curve=(first,)))
    assert isinstance(last, Outcome)
    assert last.status is Status.FINISHED, last.reason
    assert resumed[0] == first
    assert told(resumed) == told(unbroken)
    assert equal(weights_of(folder, 1), weights_of(folder, 2))
    assert last.answers == whole.answers
    assert 0 < last.facts["set_up_seconds"] < last.seconds


def test_nothing_is_kept_before_the_end_that_takes_much_of_the_disk_and_such_a_trial_begins_anew(
    new_worker: Callable[[], TrainingWorker],
) -> None:
    worker = new_worker()
    folder = worker._job.artifacts
    with patch("autopeft.training.state.OF_DISK", 0.0):
        training = worker.train(trial(3))
        first = next(training)
        training.close()  # type: ignore[attr-defined]
        assert isinstance(first, Rung)
        assert first.artifact == ""
        assert not list(folder.glob("0003*"))
        *rungs, last = worker.train(trial(3, curve=(first,)))
    assert isinstance(last, Outcome)
    assert (last.status, last.artifact) == (Status.FINISHED, "mine/0003")
    assert [each.artifact for each in rungs if isinstance(each, Rung)] == ["", "", "mine/0003"]


def test_until_a_trial_that_begins_anew_reaches_a_rung_the_weights_stay_whose_score_is_remembered(
    new_worker: Callable[[], TrainingWorker],
) -> None:
    worker = new_worker()
    folder = worker._job.artifacts
    training = worker.train(trial(6))
    first = next(training)
    training.close()  # type: ignore[attr-defined]
    assert isinstance(first, Rung)
    state_of(folder, 6).unlink()
    *rungs, last = worker.train(trial(6, curve=(first,), until=time.time()))
    assert isinstance(last, Outcome)
    assert (rungs, last.reason) == ([], OUT_OF_TIME)
    assert first.artifact
    assert len(autopeft.load(weights_of(folder, 6)).predict(["the film was good"])) == 1


def test_what_was_kept_of_another_trial_is_not_gone_on_with(new_worker: Callable[[], TrainingWorker]) -> None:
    worker = new_worker()
    training = worker.train(trial(4))
    next(training)
    training.close()  # type: ignore[attr-defined]
    other = replace(trial(4), seed=6)
    again = worker.train(other)
    state_of(worker._job.artifacts, 4).read_bytes()
    first = next(again)
    again.close()  # type: ignore[attr-defined]
    state_of(worker._job.artifacts, 4).write_bytes(b"half of a state")
    *_, last = worker.train(other)
    assert isinstance(first, Rung)
    assert isinstance(last, Outcome)
    assert last.status is Status.FINISHED


@pytest.mark.parametrize("rungs", [0, 1])
def test_a_trial_ends_when_the_time_of_its_search_is_over(new_worker: Callable[[], TrainingWorker], rungs: int) -> None:
    worker = new_worker()
    moment = time.time() + 1000
    training = worker.train(trial(5, until=moment))
    seen = [next(training) for _ in range(rungs)]
    with patch("autopeft.searching.worker.time.time", lambda: moment):
        *more, last = training
    assert isinstance(last, Outcome)
    assert (last.status, last.reason) == (Status.STOPPED, OUT_OF_TIME)
    assert not more
    assert all(isinstance(each, Rung) for each in seen)
    assert weights_of(worker._job.artifacts, 5).exists() == bool(rungs)


class Stop(Exception):
    """Ends a search as a kill does: nothing is said to anybody."""


def settings(user: Path, name: str, **more: Any) -> dict[str, Any]:
    where = {"storage": f"sqlite:///{user}/searches.db", "folder": str(user / "runs"), "workers": 0}
    plan = {"space": "quick", "methods": "bitfit", "max_length": 16, "trials": 1, "sampler": "random"}
    return {"model": str(user / "model"), "data": str(user / "reviews.csv"), **plan, **where, "name": name, **more}


def test_where_preparing_takes_all_of_its_time_a_search_begins_nothing_and_can_be_given_more(user: Path) -> None:
    given, doing = settings(user, "short", trials=None, time=0.1), list[str]()
    short = autopeft.search(**given, on_event=lambda event: doing.append(getattr(event, "what", "")))
    assert not [what for what in doing if what.startswith("predicting")]
    assert (short.trials, short.record.ended_by_time) == ((), True)
    assert "its time of 0.1 s was over" in render(short.record, "terminal")


def test_an_interrupted_search_has_a_front_already_and_goes_on_from_its_last_rung(user: Path) -> None:
    whole = autopeft.search(**settings(user, "whole"))

    def interrupt(event: Event) -> None:
        if isinstance(event, TrialReported) and event.trial.number == 1 and len(event.trial.curve) == 2:
            raise Stop

    given = settings(user, "broken")
    with pytest.raises(Stop):
        autopeft.search(**given, on_event=interrupt)
    opened = autopeft.open("broken", storage=given["storage"])
    (begun,) = opened.front
    assert (begun.status, begun.share < 1) == (Status.TRAINING, True)
    assert f"after {begun.share:.0%}" in render(opened.record, "terminal")
    exported = opened.export(1, user / "exported")
    assert len(autopeft.load(exported).predict(["the film was good"])) == 1
    assert f"trained for {begun.share:.0%} of its steps" in (exported / "README.md").read_text()
    reached: list[int] = []

    def look(event: Event) -> None:
        if isinstance(event, TrialReported) and event.trial.number == 1:
            reached.append(len(event.trial.curve))
        if isinstance(event, TrialBegan) and event.trial.number == 1:
            assert len(event.trial.curve) == 2

    resumed = autopeft.resume(
        "broken", **{name: given[name] for name in ("storage", "folder", "workers")}, on_event=look
    )
    assert reached == [2, 3]
    (one,), (other,) = whole.trials, resumed.trials
    assert told([*one.curve]) == told([*other.curve])
    assert equal(Path(one.artifact), Path(other.artifact))
    assert not list((user / "runs").glob("broken-*/*.state"))


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
