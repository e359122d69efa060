"""What keeps the queue going goes on whatever happens, and searches that could not be started wait."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import TimeoutError as Waited

from autopeft.plan import Plan
from autopeft.service import keeper
from autopeft.service.keeper import Keeper
from autopeft.service.settings import Settings
from autopeft.storage.database import DatabaseRefuses, answered, read_url
from autopeft.storage.holding import MOST_ATTEMPTS, Holding
from autopeft.storage.opened import Opened
from autopeft.storage.queue import WAITING, Queue


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(storage=f"sqlite:///{tmp_path}/searches.db", folder=tmp_path / "runs")


@pytest.fixture
def opened(settings: Settings) -> Iterator[Opened]:
    with closing(Opened(settings.storage)) as made:
        yield made


def test_where_no_log_can_be_written_searches_wait_and_are_none_the_worse(settings: Settings, opened: Opened) -> None:
    queue = Queue(opened)
    queue.add("a", Plan("mini", "d.csv"), "somebody")
    settings.folder.mkdir()
    settings.logs.write_text("a file in the place of a folder")
    tending = Keeper(replace(settings), opened)
    for _ in range(MOST_ATTEMPTS + 2):
        with pytest.raises(OSError, match="File exists"):
            tending._step()
    assert [each.state for each in queue.entries()] == [WAITING]
    assert Holding(opened).take("here", 1) is not None


def test_a_defect_does_not_end_the_thread(
    settings: Settings, opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper, "_PAUSE", 0.01)
    monkeypatch.setattr(keeper, "_LATER", 0.01)
    tending, steps = Keeper(settings, opened), iter([ValueError("odd"), OSError("full"), None])

    def step() -> None:
        if (error := next(steps)) is not None:
            raise error
        tending._over.set()

    monkeypatch.setattr(tending, "_step", step)
    tending.start()
    tending.join(10)
    assert not tending.is_alive()
    assert "the queue has to wait: full" in caplog.text
    assert "ValueError: odd" in caplog.text


def test_a_database_all_of_whose_connections_are_busy_is_told_in_a_sentence(settings: Settings) -> None:
    with pytest.raises(DatabaseRefuses, match="QueuePool limit"), answered(read_url(settings.storage)):
        raise Waited("QueuePool limit of size 5 overflow 10 reached")
