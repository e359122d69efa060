"""Deleting takes away what is the search's alone, nothing else, and can be called again after a kill."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import autopeft
from autopeft.errors import AutopeftError
from autopeft.searching.preparing.shared import marked, take_away
from autopeft.storage.repository import Repository
from tests.test_cli import run
from tests.user import user_folder


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two searches, `one` and `other`, on the same data."""
    place = user_folder(tmp_path_factory.mktemp("user"))
    for name in ("one", "other"):
        paths = {"model": str(place / "model"), "data": str(place / "reviews.csv"), **where(place)}
        plan: dict[str, Any] = {"space": "quick", "methods": "bitfit", "max_length": 16, "trials": 1, "confirm": 1}
        autopeft.search(**paths, **plan, workers=0, name=name)
    return place


@pytest.fixture
def project(searched: Path, tmp_path: Path) -> Path:
    """A copy of it that may be spoiled."""
    return shutil.copytree(searched, tmp_path / "project")


def where(place: Path) -> dict[str, str]:
    return {"storage": f"sqlite:///{place}/searches.db", "folder": str(place / "runs")}


def files(place: Path) -> set[str]:
    """Weights and prepared data, by the beginnings of their names."""
    found = [*(place / "runs").iterdir(), *(place / "runs" / "data").iterdir()]
    return {path.name.split("-")[0] for path in found}


def names(place: Path) -> tuple[str, ...]:
    with Repository(where(place)["storage"]) as repository:
        return repository.names()


def test_a_search_goes_with_its_weights_and_the_last_with_the_prepared_data(project: Path) -> None:
    held = sum(file.stat().st_size for file in (project / "runs").rglob("*") if file.is_file())
    assert files(project) == {"one", "other", "data", "tokens", "probe"}
    first = autopeft.delete("one", **where(project))
    assert (names(project), files(project)) == (("other",), {"other", "data", "tokens", "probe"})
    assert [folder.name.split("-")[0] for folder in first.folders] == ["one"]
    assert autopeft.open("other", **where(project)).has_weights(1)
    second = autopeft.delete("other", **where(project))
    assert (names(project), files(project)) == ((), {"data"})
    assert first.freed + second.freed == held
    with pytest.raises(AutopeftError, match="unknown search 'one'"):
        autopeft.delete("one", **where(project))


@pytest.mark.parametrize(
    "at", ["shutil.rmtree", "autopeft.searching.deleting.take_away", "autopeft.storage.repository.delete"]
)
def test_a_killed_call_leaves_nothing_that_is_recommended_and_is_finished_by_the_next(
    project: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    finished_before = autopeft.open("one", **where(project))
    with monkeypatch.context() as patched:
        patched.setattr(at, die)
        with pytest.raises(KeyboardInterrupt):
            autopeft.delete("one", **where(project))
    uses: list[Callable[[], object]] = [
        lambda: autopeft.open("one", **where(project)),
        lambda: autopeft.resume("one", workers=0, **where(project)),
        lambda: finished_before.confirm(2, workers=0, folder=where(project)["folder"]),
    ]
    for use in uses:
        with pytest.raises(AutopeftError, match="search 'one' is deleted by half; `autopeft delete one` does the rest"):
            use()
    autopeft.delete("one", **where(project))
    assert (names(project), files(project)) == (("other",), {"other", "data", "tokens", "probe"})


def test_a_running_search_is_not_deleted(project: Path) -> None:
    with Repository(where(project)["storage"]) as running:
        running.claim("one")
        with pytest.raises(AutopeftError, match="is being run by another process"):
            autopeft.delete("one", **where(project))
    assert "one" in names(project)


def test_a_record_that_names_a_folder_elsewhere_deletes_nothing(project: Path) -> None:
    with Repository(where(project)["storage"]) as repository:
        facts = repository.load("one").facts
        repository.update("one", facts={**facts, "weights_folder": "../model"})
    with pytest.raises(AutopeftError, match="it names no folder of weights"):
        autopeft.delete("one", **where(project))
    assert (project / "model").is_dir()


def tampered(place: Path, name: str, **facts: object) -> None:
    """What somebody did to a database."""
    with Repository(where(place)["storage"]) as repository:
        repository.update(name, facts={**repository.load(name).facts, **facts})


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_tampered_record_deletes_no_folder_of_others(project: Path) -> None:
    foreign = project / "foreign"
    for name in ("Documents", "Documents-0123456789ab"):
        (foreign / name / "0001").mkdir(parents=True)
        (foreign / name / "0001" / "thesis.txt").write_text("five years")
    before = everything(foreign) | everything(project / "runs" / "data")
    for name in ("Documents", "data"):
        tampered(project, "one", run_folders=[str(foreign), str(project / "runs")], weights_folder=name)
        with pytest.raises(AutopeftError, match="it names no folder of weights"):
            autopeft.delete("one", where(project)["storage"])
    tampered(project, "one", weights_folder="Documents-0123456789ab")
    autopeft.delete("one", where(project)["storage"])
    assert everything(foreign) | everything(project / "runs" / "data") >= before
    assert names(project) == ("other",)


def test_a_record_that_names_the_folder_of_another_search_does_not_delete_it(project: Path) -> None:
    (theirs,) = (project / "runs").glob("other-*")
    (mine,) = (project / "runs").glob("one-*")
    shutil.copyfile(mine / "0001" / "autopeft.json", theirs / "0001" / "autopeft.json")
    before = everything(theirs)
    tampered(project, "one", weights_folder=theirs.name)
    autopeft.delete("one", **where(project))
    assert everything(theirs) == before


def test_of_a_folder_without_the_mark_only_the_searchs_own_weights_are_deleted(project: Path) -> None:
    (folder,) = (project / "runs").glob("one-*")
    (folder / ".autopeft-search").unlink()
    (folder / "2023").mkdir()
    (folder / "thesis.txt").write_text("five years")
    assert autopeft.delete("one", **where(project)).folders[:1] == (folder / "0001",)
    assert {path.name for path in folder.iterdir()} == {"2023", "thesis.txt"}


def test_a_killed_call_leaves_the_mark_until_all_else_is_gone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = (project / "runs").glob("one-*")
    (folder / "0002").mkdir()
    (folder / "0001" / "autopeft.json").unlink()
    remove, removed = shutil.rmtree, list[Path]()

    def die_after_one(path: Path) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        remove(path)

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", die_after_one)
        with pytest.raises(KeyboardInterrupt):
            autopeft.delete("one", **where(project))
    assert folder.exists()
    autopeft.delete("one", **where(project))
    assert not folder.exists()


def test_prepared_data_that_is_taken_away_while_it_is_marked_is_made_again(tmp_path: Path) -> None:
    made: list[Path] = []

    def make() -> Path:
        folder = tmp_path / "tokens-1"
        folder.mkdir(exist_ok=True)
        made.append(folder)
        if len(made) == 2:
            assert list(take_away(tmp_path, "one")) == [folder]
        return folder

    marked(make, "one")
    assert marked(make, "other").is_dir()
    assert len(made) == 3
    assert take_away(tmp_path, "one") == {}
    assert (tmp_path / "tokens-1" / "used_by" / "other").exists()


def test_the_command_asks_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("delete", "one", "--storage", where(project)["storage"], "--folder", where(project)["folder"])
    refused = run(*options)
    assert refused.exit_code == 2
    assert "nobody can be asked whether to delete search 'one'; say so by --yes." in refused.stderr
    assert "one" in names(project)
    with monkeypatch.context() as patched:
        patched.setattr("autopeft.cli.results.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
        asked = run(*options)
    lists, question = (asked.output.index(what) for what in ("/runs/one-", "Delete search 'one' with all its"))
    assert lists < question
    assert "one" in names(project)
    told = run(*options, "--yes")
    assert told.exit_code == 0, told.stderr
    assert "Deleted search one: 1 trial; " in told.stdout
    assert "/runs/one-" in told.stdout
    assert names(project) == ("other",)
