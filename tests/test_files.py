"""A file appears whole or not at all, and a folder is asked about before anything takes time."""

from pathlib import Path

import pytest

import autopeft
from autopeft.errors import AutopeftError
from autopeft.files import appearing, bytes_in, require_folder


def test_a_file_appears_when_it_is_whole_and_two_writers_have_places_of_their_own(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"
    with appearing(target) as one, appearing(target) as other:
        one.write_text("one")
        other.write_text("other")
        assert not target.exists()
    assert target.read_text() == "one", "the last that was whole"
    assert bytes_in(tmp_path) == 3


def test_of_what_fails_nothing_is_left(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("before")

    def fail() -> None:
        with appearing(target) as place:
            place.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "before")]


def test_a_folder_that_can_be_made_is_fine_and_is_not_made_yet(tmp_path: Path) -> None:
    require_folder(str(tmp_path / "runs" / "mine"))
    (tmp_path / "kept").mkdir()
    require_folder(str(tmp_path / "kept"))
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("place", "why"),
    [("file", "File exists"), ("file/runs", "Not a directory"), ("n" * 300, "File name too long")],
)
def test_a_folder_that_cannot_be_made_is_answered(tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AutopeftError, match=rf"cannot be written: {why}; give another by --folder\."):
        require_folder(str(tmp_path / place))


def test_a_search_asks_before_it_loads_anything(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "none.csv").write_text("")
    place = {"folder": str(tmp_path / "file"), "storage": f"sqlite:///{tmp_path}/searches.db"}
    with pytest.raises(AutopeftError, match="cannot be written"):
        autopeft.search(model="none", data=str(tmp_path / "none.csv"), **place)
