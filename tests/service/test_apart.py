"""Work apart: whatever it does to its process, the service answers, and the next question finds a process."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from autopeft.errors import AutopeftError
from autopeft.service import apart as module
from autopeft.service.apart import Apart
from autopeft.service.problems import Busy, TooLong
from tests.service.conftest import Service


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    made = Apart(processes=1)
    yield made
    made.close()


def refuses() -> None:
    raise AutopeftError("there is no column 'lable'.")


def sleeps(seconds: float) -> None:
    time.sleep(seconds)


def test_what_dies_takes_too_long_or_is_refused_is_answered_and_the_next_question_too(apart: Apart) -> None:
    with pytest.raises(AutopeftError, match="there is no column 'lable'"):
        apart.run(60, refuses)
    assert apart.run(60, pow, base=2, exp=10) == 1024
    with pytest.raises(AutopeftError, match="may have needed too much memory"):
        apart.run(60, os.abort)
    with pytest.raises(TooLong, match="took more than 1 s"):
        apart.run(0.6, sleeps, seconds=600)
    with pytest.raises(AutopeftError, match="ZeroDivisionError"):
        apart.run(60, pow, base=0, exp=-1)


def test_who_asks_what_many_ask_waits_only_where_few_do(service: Service) -> None:
    may, asked = threading.Event(), []

    def made() -> str:
        asked.append(1)
        assert may.wait(10)
        return "an answer"

    def ask() -> str:
        try:
            return str(service.office.kept(("a", "question"), made))
        except Busy:
            may.set()
            return "busy"

    with ThreadPoolExecutor(40) as threads:
        answers = [each.result(10) for each in [threads.submit(ask) for _ in range(40)]]
    assert len(asked) == 1
    assert {*answers} == {"an answer", "busy"}
    assert ask() == "an answer"


def test_few_wait_for_a_process_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that waits takes one of the threads that answer all other requests."""
    monkeypatch.setattr(module, "_PATIENCE", 0.3)
    none = Apart(processes=0)
    with ThreadPoolExecutor(12) as asked:
        began = time.monotonic()
        found = [asked.submit(none.run, 60, pow, base=2, exp=10) for _ in range(12)]
        assert all(isinstance(each.exception(), Busy) for each in found)
    assert time.monotonic() - began < 2
    assert sum(none._few._places.acquire(blocking=False) for _ in range(12)) == module._MOST_WAITING
