"""Where files are written, and where they are looked for."""

from dataclasses import replace
from pathlib import Path

import pytest

from autopeft.errors import AutopeftError
from autopeft.searching.whereabouts import (
    has_weights,
    located,
    places_of_new,
    run_folder,
    run_folders,
    sitting_in,
    weights_folder,
    with_moved,
)
from autopeft.trial import Outcome, SearchRecord, Status
from tests.reports.records import bare, trial


def record(folder: Path, name: str = "bare") -> SearchRecord:
    """A search with one trial, as a database remembers it."""
    facts = places_of_new(name, folder)
    outcome = Outcome(Status.FINISHED, artifact=f"{facts['weights_folder']}/0001")
    return replace(bare(replace(trial(1), outcome=outcome)), facts=facts)


def test_two_searches_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    one, other = record(tmp_path), record(tmp_path)
    assert weights_folder(one) != weights_folder(other)
    assert weights_folder(one).startswith("bare-")
    assert weights_folder(bare()) == "bare", "of an older search"


def test_files_are_written_where_it_is_said_else_where_the_last_sitting_wrote_else_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun = record(tmp_path / "first")
    here = tmp_path / "autopeft-runs"
    assert run_folder(begun, "given") == tmp_path / "given"
    assert run_folder(begun, None) == here, "because the first folder is gone"
    (tmp_path / "first").mkdir()
    assert run_folder(begun, None) == tmp_path / "first"
    again = sitting_in(begun, tmp_path / "second")
    assert run_folders(again, None) == (tmp_path / "second", tmp_path / "first", here)
    assert run_folders(again, "given")[0] == tmp_path / "given"
    assert sitting_in(again, tmp_path / "second") == again


def test_weights_are_found_in_any_run_folder_that_the_search_had(tmp_path: Path) -> None:
    begun = sitting_in(record(tmp_path / "first"), tmp_path / "second")
    weights = tmp_path / "first" / weights_folder(begun) / "0001"
    assert not has_weights(located(begun, None).trials[0])
    weights.mkdir(parents=True)
    found = located(begun, None).trials[0]
    assert found.outcome is not None
    assert (has_weights(found), found.outcome.artifact) == (True, str(weights))
    moved = tmp_path / "moved"
    (tmp_path / "first").rename(moved)
    assert not has_weights(located(begun, None).trials[0])
    assert has_weights(located(begun, moved).trials[0])


def test_older_searches_say_absolute_places(tmp_path: Path) -> None:
    outcome = Outcome(Status.FINISHED, artifact=str(tmp_path / "runs" / "bare" / "0001"))
    older = bare(replace(trial(1), outcome=outcome))
    assert run_folders(older, None)[0] == tmp_path / "runs"
    (tmp_path / "elsewhere" / "bare" / "0001").mkdir(parents=True)
    assert not has_weights(located(older, None).trials[0])
    assert has_weights(located(older, tmp_path / "elsewhere").trials[0])


@pytest.mark.parametrize("name", ["..", "../elsewhere", "/elsewhere", "", 5, "Documents", "data", "bare-0123456789aX"])
def test_a_folder_outside_the_run_folder_is_no_folder_of_weights(name: object) -> None:
    with pytest.raises(AutopeftError, match="names no folder of weights"):
        weights_folder(replace(bare(), facts={"weights_folder": name}))


def test_what_a_plan_names_must_be_there_or_said_anew(tmp_path: Path) -> None:
    lost = replace(bare(), plan=replace(bare().plan, model="some/hub-name", data=str(tmp_path / "gone.csv")))
    with pytest.raises(AutopeftError, match=r"the data of search 'bare' was '.*gone.csv', which is gone; .*by --data"):
        with_moved(lost, {"model": None, "data": None})
    (tmp_path / "here.csv").touch()
    assert with_moved(lost, {"data": str(tmp_path / "here.csv")}).plan.data == str(tmp_path / "here.csv")
