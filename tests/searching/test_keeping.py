"""Weights are kept of what may be recommended, and of nothing else; whatever happens, nothing that is needed goes."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

import autopeft
from autopeft.errors import AutopeftError
from autopeft.events import Event, TrialEnded
from autopeft.searching.keeping import TakingAway, keeping, take_away, take_away_states, why_deleted
from autopeft.searching.marks import MARK, mark
from autopeft.storage.repository import Repository
from autopeft.trial import SearchRecord, Status
from tests.reports.records import bare, confirmation, trial
from tests.searching.place import Place
from tests.test_cli import run

BEATEN, BETTER, CHEAPER = trial(1), trial(2, accuracies=(0.9,)), trial(3, accuracies=(0.7,), memory=1000, trainable=10)


def record(**more: Any) -> SearchRecord:
    """One trial is beaten, the others are on the front."""
    own = {"weights_folder": "bare-0123456789ab"}
    return replace(bare(BEATEN, BETTER, CHEAPER), **{"facts": own, **more})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the weights of that search."""
    folder = tmp_path / "bare-0123456789ab"
    for number in (1, 2, 3):
        (folder / f"{number:04d}").mkdir(parents=True)
        (folder / f"{number:04d}" / "autopeft.json").write_text("{}")
    mark(record(), folder)
    return folder


def left(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir() if each.is_dir()}


def test_weights_of_beaten_trials_are_taken_away(folder: Path) -> None:
    take_away(record(), [BEATEN, CHEAPER], folder)
    assert left(folder) == {"0001", "0002", "0003"}, "nobody beats it yet"
    for _ in range(2):
        take_away(record(), record().trials, folder)
        assert left(folder) == {"0002", "0003"}


def test_while_trials_end_each_is_compared_with_those_that_nobody_beats(folder: Path) -> None:
    for number in (1, 3):
        (folder / f"{number:04d}.state").touch()
    taking_away = TakingAway(record(trials=(BEATEN,)), folder)
    taking_away(replace(CHEAPER, status=Status.FAILED))
    assert left(folder) == {"0001", "0002"}
    assert [each.name for each in folder.glob("*.state")] == ["0001.state"], "what another goes on from is not its own"
    with patch("pathlib.Path.rename", side_effect=OSError):
        taking_away(BETTER)
    assert left(folder) == {"0001", "0002"}
    taking_away(replace(CHEAPER, number=4))
    assert left(folder) == {"0002"}, "what could not be removed is removed with the next"


@pytest.mark.parametrize(
    "known",
    [
        record(plan=replace(bare().plan, keep="all")),
        record(confirmations=(confirmation(1),)),
        keeping(record(), 1),
        record(trials=(BEATEN, replace(BETTER, status=Status.STOPPED), CHEAPER)),
        record(created=BEATEN.finished),
    ],
    ids=["all are kept", "confirmed", "wanted", "a trial without a model beats none", "the mark is another search's"],
)
def test_what_is_kept_all_the_same(known: SearchRecord, folder: Path) -> None:
    take_away(known, known.trials, folder)
    assert left(folder) == {"0001", "0002", "0003"}


def test_what_trials_go_on_from_is_taken_away_when_they_end_and_weights_of_rungs_when_they_came_to_nothing(
    folder: Path,
) -> None:
    for number in (1, 2, 3):
        (folder / f"{number:04d}.state").touch()
    failed, under_way = replace(CHEAPER, status=Status.FAILED), replace(BETTER, status=Status.TRAINING, outcome=None)
    take_away(record(plan=replace(bare().plan, keep="all")), [BEATEN, under_way, failed], folder)
    assert left(folder) == {"0001", "0002"}
    assert [each.name for each in folder.glob("*.state")] == ["0002.state"]
    take_away_states(folder)
    assert not [*folder.glob("*.state")]


def test_nothing_is_taken_away_from_a_folder_without_the_mark(folder: Path) -> None:
    (folder / MARK).unlink()
    take_away(record(), record().trials, folder)
    assert left(folder) == {"0001", "0002", "0003"}


@pytest.mark.parametrize("at", ["pathlib.Path.rename", "shutil.rmtree"])
def test_what_a_killed_driver_did_not_take_away_the_next_one_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(at, die)
        with pytest.raises(KeyboardInterrupt):
            take_away(record(), record().trials, folder)
    assert {"0002", "0003"} < left(folder)
    assert ("0001" in left(folder)) == (at == "pathlib.Path.rename"), "half of it is never taken for weights"
    take_away(record(), record().trials, folder)
    assert left(folder) == {"0002", "0003"}


def test_a_link_leads_no_removal_elsewhere(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "thesis"
    shutil.move(folder / "0001", elsewhere)
    (folder / "0001").symlink_to(elsewhere)
    take_away(record(), record().trials, folder)
    assert (elsewhere / "autopeft.json").is_file()


def test_what_was_deleted_is_said_with_what_beats_it_and_how_it_comes_back() -> None:
    said = why_deleted(record(), BEATEN)
    assert "the weights of trial 1 were deleted, because trial 2 beats it" in said
    assert "autopeft resume bare --once-more 1" in said
    own = record(plan=replace(bare().plan, metric="my.py:score"))
    said = why_deleted(own, BEATEN, "sqlite:///other.db", "runs")
    assert said.endswith(
        "autopeft resume bare --once-more 1 --metric my.py:score --folder runs --storage sqlite:///other.db"
    )
    for known, other in ((record(), BETTER), (record(plan=replace(bare().plan, keep="all")), BEATEN)):
        assert not why_deleted(known, other)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, autopeft.Search, dict[int, Path]]:
    """A search on a tiny model, and copies of the weights that trials had when they finished."""
    place, copies = Place(tmp_path_factory.mktemp("kept")), dict[int, Path]()

    def copy(event: Event) -> None:
        for weights in (place.folder / "runs").glob("kept-*/[0-9]*"):
            ended = event.trial if isinstance(event, TrialEnded) else None
            if ended and ended.status is Status.FINISHED and ended.number == int(weights.name):
                copies[event.trial.number] = shutil.copytree(weights, place.folder / f"copy-{weights.name}")

    search = autopeft.search(**place.settings("kept", 8, on_event=copy))
    return place, search, copies


def test_a_search_keeps_what_it_recommends_while_it_goes_on_and_afterwards(
    searched: tuple[Place, autopeft.Search, dict[int, Path]],
) -> None:
    place, search, _ = searched
    finished = [trial for trial in search.trials if trial.is_model]
    assert 0 < place.read_back("kept") < len(finished)
    assert all(search.has_weights(trial.number) for trial in search.front)
    for limits in ({}, *({name: int(each.predicted.value(name))} for each in finished for name in ("memory", "flops"))):
        assert search.has_weights(search.select(**limits).number)
    assert search.record.plan.keep == "front"


def test_weights_that_were_deleted_are_told_and_trained_once_more_bit_for_bit(
    searched: tuple[Place, autopeft.Search, dict[int, Path]], tmp_path: Path
) -> None:
    place, search, copies = searched
    gone = next(number for number in copies if not search.has_weights(number))
    with pytest.raises(AutopeftError, match=f"the weights of trial {gone} were deleted, because trial"):
        search.export(gone, tmp_path / "winner")
    with pytest.raises(AutopeftError, match="Those of beaten trials a search deletes"):
        search.trial(gone).save(tmp_path / "winner")
    where = ("--storage", place.storage, "--folder", place.folder / "runs")
    told = run("resume", "kept", "--once-more", gone, "--workers", 0, *where)
    assert told.exit_code == 0, told.stderr
    again = autopeft.open("kept", storage=place.storage)
    mine, before = (sorted(each.rglob("*.safetensors")) for each in (weights_of(again, gone), copies[gone]))
    for one, other in zip(mine, before, strict=True):
        (first, second) = (load_file(each) for each in (one, other))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.trial(gone).score == search.trial(gone).score
    assert [trial for trial in again.trials if trial.number != gone] == [
        trial for trial in search.trials if trial.number != gone
    ]
    more = autopeft.resume("kept", trials=9, **place.resources())
    assert more.has_weights(gone), "from now on"
    more.export(gone, tmp_path / "winner")


def weights_of(search: autopeft.Search, number: int) -> Path:
    outcome = search.trial(number).outcome
    assert outcome is not None
    return Path(outcome.artifact)


def test_what_cannot_be_trained_once_more_is_answered(searched: tuple[Place, autopeft.Search, dict[int, Path]]) -> None:
    place, search, _ = searched
    there = search.front[0].number
    for given, answer in (
        ({"once_more": 99}, "trial 99 of search 'kept' is not there; only one that ended with a model"),
        ({"once_more": there}, f"the weights of trial {there} of search 'kept' are there"),
        ({"once_more": 1, "trials": 40}, "give it without --trials and --time"),
    ):
        with pytest.raises(AutopeftError, match=answer):
            autopeft.resume("kept", **given, **place.resources())


def test_a_search_that_does_not_say_what_it_keeps_keeps_all(tmp_path: Path) -> None:
    """As those of earlier versions, which kept all."""
    storage = f"sqlite:///{tmp_path}/searches.db"
    with Repository(storage) as repository:
        repository.create(record())
        connection = repository._engine.raw_connection()
        connection.execute("UPDATE searches SET plan = json_remove(plan, '$.keep')")
        connection.commit()
    assert autopeft.open("bare", storage=storage).plan.keep == "all"
