"""A file appears whole or not at all."""

from pathlib import Path

import pytest

from autopeft.files import appearing, bytes_in


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
