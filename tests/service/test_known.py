"""What is known of searches: of one moment, made once, and late only where a search runs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from autopeft.errors import AutopeftError
from autopeft.service import known as module
from autopeft.service.known import Known, KnownSearches
from autopeft.storage.repository import Repository
from autopeft.trial import SearchRecord
from tests.reports.records import record

NAME = record().name


class Made:
    """What reports were made, and whether one may be."""

    def __init__(self) -> None:
        self.of: list[tuple[str, int]] = []
        """Format, and how many trials are in it."""
        self.may = threading.Event()
        self.may.set()

    def render(self, record: SearchRecord, format: str) -> str:
        assert self.may.wait(10)
        self.of.append((format, len(record.trials)))
        return f"{len(record.trials)}"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made()
    monkeypatch.setattr(module, "render", made.render)
    monkeypatch.setattr(module, "_LONGEST", 0.0)
    return made


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with Repository(f"sqlite:///{tmp_path}/searches.db") as repository:
        repository.create(record())
        yield repository


@pytest.fixture
def searches(repository: Repository, tmp_path: Path) -> Iterator[KnownSearches]:
    with closing(KnownSearches(repository, f"sqlite:///{tmp_path}/searches.db", tmp_path)) as known:
        yield known


def one_more(repository: Repository) -> int:
    """One trial more is known; returns how many there are now."""
    number = len(repository.load(NAME).trials) + 1
    repository.record(NAME, replace(record().trials[0], number=100 + number))
    return number


def until(true: Callable[[], bool]) -> None:
    """Waits for something that is done beside the test."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < 10
        time.sleep(0.01)


def get(searches: KnownSearches, runs: bool) -> Known:
    found = searches.get(NAME, lambda: runs)
    assert found is not None
    return found


def test_what_has_ended_is_told_as_it_is_and_made_once(
    searches: KnownSearches, repository: Repository, made: Made
) -> None:
    assert get(searches, runs=False) is get(searches, runs=False)
    for _ in range(3):
        get(searches, runs=False).report("html")
    assert len(made.of) == 1
    count = one_more(repository)
    assert get(searches, runs=False).report("html") == str(count).encode()
    assert searches.get("another", lambda: False) is None


def test_of_one_that_runs_all_is_of_one_moment_and_nobody_waits_for_what_is_new(
    searches: KnownSearches, repository: Repository, made: Made
) -> None:
    before = get(searches, runs=True)
    count = len(before.search.trials)
    assert before.report("html") == before.report("csv") == str(count).encode()
    made.may.clear()
    one_more(repository)
    for _ in range(3):
        late = get(searches, runs=True)
        assert late is before
        assert late.report("html") == late.report("csv") == str(len(late.search.trials)).encode()
    made.may.set()
    until(lambda: get(searches, runs=True) is not before)
    assert made.of == [("html", count), ("csv", count), ("html", count + 1), ("csv", count + 1)], "each was made ready"
    assert get(searches, runs=True).report("html") == str(count + 1).encode()


def test_what_ends_while_something_is_made_ready_is_told_as_it_is(
    searches: KnownSearches, repository: Repository, made: Made
) -> None:
    get(searches, runs=True).report("html")
    made.may.clear()
    one_more(repository)
    get(searches, runs=True)
    count = one_more(repository)
    threading.Timer(0.1, made.may.set).start()
    assert get(searches, runs=False).report("html") == str(count).encode()


@pytest.mark.usefixtures("made")
def test_what_is_known_for_long_is_told_to_nobody(
    searches: KnownSearches, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(searches, runs=True)
    count = one_more(repository)
    monkeypatch.setattr(module, "_OLDEST", 0.0)
    assert get(searches, runs=True).report("html") == str(count).encode()


@pytest.mark.usefixtures("made")
def test_of_a_deleted_search_nothing_is_told_where_another_one_has_its_name(
    searches: KnownSearches, repository: Repository
) -> None:
    whole = record()
    assert get(searches, runs=True).search.trials
    repository.delete(NAME)
    repository.create(replace(whole, created=whole.created + timedelta(seconds=1), trials=(), confirmations=()))
    assert not get(searches, runs=True).search.trials
    repository.delete(NAME)
    assert searches.get(NAME, lambda: True) is None
    repository.create(replace(whole, trials=(), confirmations=()))
    assert not get(searches, runs=True).search.trials


@pytest.mark.usefixtures("made")
def test_what_is_new_is_not_made_ready_all_the_time(
    searches: KnownSearches, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST", 1000.0)
    monkeypatch.setattr(module, "_PAUSE", 1e9)
    before = get(searches, runs=True)
    one_more(repository)
    until(lambda: get(searches, runs=True) is not before)
    later = get(searches, runs=True)
    one_more(repository)
    assert {get(searches, runs=True) for _ in range(100)} == {later}


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("fault", [AutopeftError("the database is away."), ZeroDivisionError()])
def test_a_database_that_is_away_and_a_defect_leave_what_was_known(
    fault: Exception,
    searches: KnownSearches,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = get(searches, runs=True)
    before.report("html")
    one_more(repository)

    def fails(*_: object) -> str:
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(module, "render", fails)
        assert get(searches, runs=True) is before
        until(lambda: "late" in caplog.text)
    until(lambda: get(searches, runs=True) is not before)
