"""What is kept between commands: made once, again where it is old or damaged, and always told right."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autopeft.reports import kept as module
from autopeft.reports.kept import kept


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "autopeft"


class Maker:
    """Makes values, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, names: tuple[str, ...]) -> Mapping[str, Mapping[str, Any]]:
        self.asked.append(names)
        return {name: {"length": len(name)} for name in names}


@pytest.mark.usefixtures("folder")
def test_only_what_is_not_known_is_made() -> None:
    make = Maker()
    assert kept("words", ("a", "bb"), make) == {"a": {"length": 1}, "bb": {"length": 2}}
    assert kept("words", ("bb", "ccc"), make) == {"bb": {"length": 2}, "ccc": {"length": 3}}
    assert kept("words", ("a", "bb", "ccc"), make)["ccc"] == {"length": 3}
    assert make.asked == [("a", "bb"), ("ccc",)]


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"state": 1}', "\0"])
def test_what_is_damaged_is_made_again(folder: Path, damaged: str) -> None:
    make = Maker()
    kept("words", ("a",), make)
    (folder / "words.json").write_text(damaged)
    assert kept("words", ("a",), make) == {"a": {"length": 1}}
    assert len(make.asked) == 2


@pytest.mark.usefixtures("folder")
def test_what_another_version_made_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    kept("words", ("a",), make)
    monkeypatch.setattr(module, "_state", lambda: "another")
    kept("words", ("a",), make)
    assert len(make.asked) == 2


def test_where_nothing_can_be_written_nothing_is_kept(folder: Path) -> None:
    folder.write_text("in the way")
    assert kept("words", ("a",), Maker()) == {"a": {"length": 1}}
