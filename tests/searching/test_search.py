"""Whole searches on a tiny model: what they remember, how they answer slips, and that a kill costs nothing finished."""

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest

import autopeft
from autopeft.errors import AutopeftError
from autopeft.events import BaselinesKnown, Begun, Ended, Event
from autopeft.plan import Budget, Plan
from autopeft.searching.preparation import prepare
from autopeft.searching.samplers.parts.drawing import Drawn
from autopeft.space.space import load_space
from autopeft.storage.repository import Repository
from autopeft.trial import Status, Trial
from tests.reports import records
from tests.searching.place import Place
from tests.test_cli import run
from tests.user import user_folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("user"))


def options(place: Path, **more: object) -> dict[str, object]:
    """Settings of a small search."""
    return {
        "model": str(place / "model"),
        "data": str(place / "reviews.csv"),
        "space": "quick",
        "max_length": 16,
        "workers": 0,
        "storage": f"sqlite:///{place}/searches.db",
        "folder": str(place / "runs"),
        **more,
    }


@pytest.fixture(scope="module")
def searched(place: Path) -> tuple[autopeft.Search, list[Event]]:
    events: list[Event] = []
    budget = Budget(trainable="60%")  # type: ignore[arg-type]
    search = autopeft.search(**options(place, name="all", trials=8, budget=budget, on_event=events.append))
    return search, events


def test_a_search_begins_with_known_good_candidates_and_measures_what_it_predicted(
    searched: tuple[autopeft.Search, list[Event]],
) -> None:
    search, _ = searched
    space, good = load_space("quick"), search.trials[:5]
    assert {trial.candidate.name for trial in good} == {"adapter", "bitfit", "lora", "lora_parallel", "prompt_tuning"}
    assert all(trial.candidate.parts == space.defaults(trial.candidate.name).parts for trial in good)
    # What comes then depends on how fast this machine is.
    assert len({str(trial.params) for trial in search.trials}) == len(search.trials) == 8
    finished = [trial for trial in search.trials if trial.status is Status.FINISHED]
    assert len(finished) >= 3
    assert all(trial.status in (Status.FINISHED, Status.STOPPED) for trial in search.trials)
    for trial in finished:
        assert trial.outcome is not None
        assert trial.outcome.measured is not None
        assert trial.outcome.measured.trainable == trial.predicted.trainable
        assert trial.outcome.measured.memory == pytest.approx(trial.predicted.memory, rel=0.03)
        assert trial.predicted.time is not None
        assert 0.1 < trial.predicted.time / trial.outcome.seconds < 10
    assert all(search.has_weights(trial.number) for trial in search.front)


def test_a_search_tells_what_happens_and_measures_its_baselines(searched: tuple[autopeft.Search, list[Event]]) -> None:
    search, events = searched
    assert [type(event) for event in events if isinstance(event, Begun | BaselinesKnown | Ended)] == [
        *(Begun, BaselinesKnown, Ended),
    ]
    assert search.record.baselines["majority class"].score == pytest.approx(0.5, abs=0.1)
    assert search.record.baselines["linear probe"].score > 0.9
    assert search.record.ended is not None
    assert len(search.front) >= 1


def test_the_best_trial_under_limits_is_saved_and_loaded(
    searched: tuple[autopeft.Search, list[Event]], tmp_path: Path
) -> None:
    search, _ = searched
    best = search.select(trainable="10%", memory="1GiB")
    best.save(tmp_path / "winner")
    search.export(best.number, tmp_path / "again")
    card = (tmp_path / "winner" / "README.md").read_text(encoding="utf-8")
    assert "- accuracy on validation data (" in card
    assert search.record.metric.show_with(best.score, best.error) in card
    assert card == (tmp_path / "again" / "README.md").read_text(encoding="utf-8")
    texts = ["the film was good", "the book was awful"]
    winner, again = autopeft.load(tmp_path / "winner"), autopeft.load(tmp_path / "again")
    assert winner.logits(texts).equal(again.logits(texts))
    assert set(winner.predict(texts)) <= {"positive", "negative"}
    with pytest.raises(AutopeftError, match=r"has no trial 99; it has 8, numbered from 1"):
        search.export(99, tmp_path / "none")


def test_a_selection_keeps_the_plans_limits_on_the_score_and_others_where_they_are_given(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/searches.db"
    trials = (records.trial(1, accuracies=(0.9,)), records.trial(2, accuracies=(0.7,), memory=1000))
    known = replace(records.bare(*trials), facts={"backbone_parameters": 10**6})
    known = replace(known, plan=replace(known.plan, budget=Budget(score="80%")))
    with Repository(storage) as repository:
        repository.create(known)
    search = autopeft.open("bare", storage=storage)
    assert search.select(prefer="memory").number == 1
    assert search.select(prefer="memory", score=0.5).number == 2
    with pytest.warns(FutureWarning, match="called 'score' now"):
        assert search.select(prefer="memory", accuracy_at_least="60%").number == 2
    with pytest.raises(AutopeftError, match=r"keeps memory at most 1000 B and accuracy at least 0\.8 together"):
        search.select(memory=1000)
    told = run("select", "bare", "--prefer", "memory", "--storage", storage).stdout
    assert told.startswith("Trial 1 of bare: the lowest peak memory of the trials that keep score 0.800.")


def test_a_selection_says_in_which_direction_a_loss_is_limited(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/searches.db"
    with Repository(storage) as repository:
        repository.create(records.of_a_loss())
    name = records.of_a_loss().name
    told = run("select", name, "--score", "500", "--storage", storage).stdout
    assert "of the trials that keep score at most 500." in " ".join(told.split())


def test_an_optuna_study_holds_the_trials(searched: tuple[autopeft.Search, list[Event]]) -> None:
    search, _ = searched
    study = search.study()
    assert [trial.values[0] for trial in study.trials] == [trial.score for trial in search.trials]


@pytest.fixture(scope="module")
def median_memory(place: Path) -> int:
    """Of candidates drawn from the space at random."""
    settings = options(place, methods="bitfit,lora")
    plan = Plan.from_dict({name: settings[name] for name in ("model", "data", "space", "max_length", "methods")})
    prepared = prepare(plan, place / "runs", "drawn", lambda _: None)
    rng = np.random.default_rng(0)
    drawn = [prepared.predict(prepared.space.draw(Drawn(rng))).memory for _ in range(15)]
    assert sum(memory > median(drawn) for memory in drawn) >= 5
    return int(median(drawn))


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["known_costs", "random"])
def test_under_the_median_of_the_costs_of_a_space_nothing_over_it_is_trained_or_selected(
    place: Path, median_memory: int, sampler: str
) -> None:
    settings = options(place, methods="bitfit,lora", trials=6, sampler=sampler, name=f"median-{sampler}")
    search = autopeft.search(**settings, budget=Budget(memory=median_memory))
    assert len(search.trials) == 6
    assert max(needed(trial) for trial in search.trials) <= median_memory
    if sampler == "random":
        assert search.record.turned_away["memory"] > 0
    finished = sorted(needed(trial) for trial in search.trials if trial.status is Status.FINISHED)
    for most in (*finished, median_memory, finished[0] + 1, 10 * median_memory):
        assert needed(search.select(memory=most)) <= most
    with pytest.raises(AutopeftError, match="no trial keeps memory at most"):
        search.select(memory=finished[0] - 1)


def needed(trial: Trial) -> int:
    """The larger of the predicted and the measured memory."""
    measured = trial.outcome.measured if trial.outcome else None
    return max(trial.predicted.memory, measured.memory if measured else 0)


def without_clock(trial: Trial) -> Trial:
    """The same trial without what depends on when and how fast it was trained, and for which search."""
    assert trial.outcome is not None
    curve = tuple(replace(rung, seconds=0.0, artifact=Path(rung.artifact).name) for rung in trial.curve)
    timed = ("set_up_seconds", "seconds_per_step", "examples_per_second", "latency", "latency_bare")
    facts = {name: value for name, value in trial.outcome.facts.items() if name not in timed}
    outcome = replace(trial.outcome, seconds=0.0, artifact=Path(trial.outcome.artifact).name, facts=facts)
    predicted = replace(trial.predicted, time=None)
    return replace(trial, predicted=predicted, curve=curve, outcome=outcome, started=None, finished=None)


def test_the_same_plan_begins_with_the_same_trials_bit_for_bit(
    searched: tuple[autopeft.Search, list[Event]], place: Path
) -> None:
    """What is proposed afterwards goes by what trainings took."""
    search, _ = searched
    again = autopeft.search(**options(place, name="again", trials=5, budget=search.plan.budget))
    assert [without_clock(trial) for trial in again.trials] == [without_clock(trial) for trial in search.trials[:5]]
    assert again.record.baselines == search.record.baselines


def test_every_trial_says_where_and_with_what_it_was_trained(searched: tuple[autopeft.Search, list[Event]]) -> None:
    search, _ = searched
    assert len({trial.seed for trial in search.trials}) == len(search.trials)
    assert search.record.facts["data_fingerprint"]
    for trial in search.trials:
        assert trial.outcome is not None
        facts = trial.outcome.facts
        assert facts["device"]
        assert facts["threads"]
        assert facts["test_fingerprint"] == "", "the rows that confirmations answer, by their hash: there are none"
        assert facts["versions"].keys() == {"python", "autopeft", "torch", "transformers", "peft"}


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"name": "all"}, "a search named 'all' exists"),
        ({"name": "../all"}, "a search cannot be named '../all'"),
        ({"methods": "lorra"}, "Did you mean 'lora'?"),
        ({"space": "quik"}, "Did you mean 'quick'?"),
        ({"model": "no/such/folder"}, "there is no model folder 'no/such/folder'"),
        ({"sampler": "tp"}, "Did you mean 'tpe'?"),
        ({"budget": Budget(trainable=3)}, r"nothing in the space 'quick' fits the budget \(trainable 3\)"),
        ({"budget": Budget(score=90)}, "accuracy is at most 1: no trial reaches 90; write it like 0.9 or 90%"),
        ({"label": "opinon"}, "Did you mean 'opinion'?"),
    ],
)
@pytest.mark.usefixtures("searched")
def test_a_slip_is_answered_and_leaves_no_search_behind(place: Path, change: dict[str, object], answer: str) -> None:
    storage = f"sqlite:///{place}/searches.db"
    with pytest.raises(AutopeftError, match=answer):
        autopeft.search(**options(place, **{"name": "slip", **change}))
    with pytest.raises(AutopeftError, match="slip"):
        autopeft.open("slip", storage=storage)


def test_changed_data_stops_a_resume(place: Path, tmp_path: Path) -> None:
    data = tmp_path / "reviews.csv"
    data.write_text((place / "reviews.csv").read_text())
    settings = options(place, data=str(data), name="changed", trials=2, methods="bitfit")

    def interrupt(event: Event) -> None:
        if isinstance(event, BaselinesKnown):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        autopeft.search(**settings, on_event=interrupt)
    data.write_text(data.read_text().replace("good", "fair"))
    where = {name: settings[name] for name in ("workers", "storage", "folder")}
    with pytest.raises(AutopeftError, match=r"the data in '.*' changed since search 'changed' began"):
        autopeft.resume("changed", **where)


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
def test_a_kill_loses_no_finished_trial_repeats_none_and_leaves_nothing_over(tmp_path: Path, workers: int) -> None:
    place = Place(tmp_path)
    settings = place.settings("killed", 12, workers, sampler="known_costs")
    process = place.start("search", **settings)
    try:
        _wait_for_finished(place, process, 3)
        for trainer in place.processes(named="Trainable.train")[:1]:
            os.kill(trainer, signal.SIGSTOP)
    finally:
        process.kill()
        process.wait()
    assert place.left(60) == 0, "not even the worker that was stopped"
    before = place.trials("killed")
    finished = {trial.number: trial for trial in before if trial.outcome is not None}
    assert 3 <= len(finished) < 12
    assert place.start("resume", "killed", **place.resources(workers)).wait(300) == 0, place.errors()
    resumed = autopeft.open("killed", storage=place.storage)
    assert [trial.number for trial in resumed.trials] == list(range(1, 13))
    assert all(trial.status in (Status.FINISHED, Status.STOPPED) for trial in resumed.trials)
    assert all(resumed.trial(number) == trial for number, trial in finished.items())
    assert len({str(trial.params) for trial in resumed.trials}) == 12
    place.require_nothing_left()


def _wait_for_finished(place: Place, process: "subprocess.Popen[bytes]", count: int) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 120:
        assert process.poll() is None, "the search ended by itself"
        time.sleep(0.05)
        if place.ended("killed") >= count:
            return
    pytest.fail("the search did not begin")
