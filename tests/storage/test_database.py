"""Every slip with a database is answered in one sentence that tells what to do, and no password is told."""

import sqlite3
import traceback
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from autopeft.errors import AutopeftError
from autopeft.storage.database import answered, read_url
from autopeft.storage.repository import Repository
from tests.reports.records import bare


def create(url: str) -> None:
    with Repository(url) as repository:
        repository.require_free("bare")
        repository.create(bare())


def answer(url: str) -> str:
    """What creating a search in this database is answered with."""
    with pytest.raises(AutopeftError) as error:
        create(url)
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "searches.db",
            "'searches.db' is not the URL of a database; write it like sqlite:///searches.db or postgresql",
        ),
        ("", "'' is not the URL of a database; write it like sqlite:///autopeft.db"),
        ("postgresql://host:port/name", "'postgresql://host:***/name' is not the URL of a database"),
        (
            "sqlite://",
            "'sqlite://' forgets everything when the program ends; give a file, such as sqlite:///autopeft.db.",
        ),
        ("sqlite:///:memory:", "forgets everything when the program ends"),
        ("postgres://host/name", "unknown kind of database 'postgres'. Did you mean 'postgresql'? Known: "),
        ("sqlite+nothing:///searches.db", "unknown kind of database 'sqlite+nothing'. Did you mean 'sqlite'?"),
        ("mssql+pymssql://me:secret@host/name", "the driver 'pymssql' of mssql+pymssql://me:***@host/name"),
    ],
)
def test_a_url_that_cannot_be_used_is_answered(url: str, expected: str) -> None:
    assert expected in answer(url)


@pytest.mark.parametrize("kind", [OperationalError, None])
def test_what_a_driver_says_is_told_without_the_password_and_without_its_traceback(kind: type | None) -> None:
    url = read_url("postgresql://me:p%40ss@host/name?token=t-1")
    said = ConnectionError("refused: user=me password=p@ss (p%40ss) token=t-1\n  at host")
    with pytest.raises(AutopeftError) as error, answered(url, at_first=True):
        raise kind("connect", None, said) if kind else said
    assert str(error.value) == (
        "cannot use the database postgresql://me:***@host/name?token=***: refused: user=me password=*** (***) "
        "token=*** at host; give another, such as sqlite:///autopeft.db."
    )
    whole = "".join(traceback.format_exception(error.value))
    assert "p@ss" not in whole.replace(__file__, "").split("AutopeftError")[-1]
    assert error.value.__suppress_context__


def test_a_defect_of_ours_is_no_refusal_of_the_database() -> None:
    with pytest.raises(TypeError), answered(read_url("sqlite:///x.db")):
        raise TypeError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://me:p@ss@host/name",
            "'postgresql://me:***@host/name' holds more than one @; in a user's name or",
        ),
        ("sqlite:///x.db?mode=ro", "'sqlite:///x.db?mode=ro' counts only where uri=true is among it"),
    ],
)
def test_a_url_that_means_something_else_than_it_says_is_answered(url: str, expected: str) -> None:
    assert expected in answer(url)


def test_a_missing_folder_is_answered(tmp_path: Path) -> None:
    assert f"there is no '{tmp_path}/missing'; make it" in answer(f"sqlite:///{tmp_path}/missing/searches.db")


def test_a_folder_in_place_of_a_file_is_answered(tmp_path: Path) -> None:
    assert f"is a folder; give a file for the database, such as sqlite:///{tmp_path}/autopeft.db" in answer(
        f"sqlite:///{tmp_path}"
    )


def test_a_folder_that_cannot_be_written_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "cannot be made: its folder cannot be written" in answer(f"sqlite:///{tmp_path}/searches.db")


def test_a_file_that_is_no_database_is_answered_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text("text,label\n" * 100)
    assert f"cannot use the database sqlite:///{file}: file is not a database; give another" in answer(
        f"sqlite:///{file}"
    )
    assert file.read_text() == "text,label\n" * 100


def test_a_database_that_may_only_be_read_is_read_and_answers_before_anything_is_done(tmp_path: Path) -> None:
    file = tmp_path / "searches.db"
    with Repository(f"sqlite:///{file}") as repository:
        repository.create(bare())
    only_read = f"sqlite:///file:{file}?mode=ro&uri=true"
    with Repository(only_read) as repository:
        assert repository.names() == ("bare",)
        with pytest.raises(AutopeftError, match="attempt to write a readonly database"):
            repository.require_free("other")


def test_tables_of_another_program_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "searches.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE trials (anything TEXT)")
    connection.close()
    assert "table trials already exists" in answer(f"sqlite:///{file}")
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("trials",)]
    connection.close()


def test_a_relative_file_stays_the_same_file_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Repository("sqlite:///searches.db") as repository:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        repository.create(bare())
    assert (tmp_path / "searches.db").is_file()
