"""Work apart: whatever it does to its process, the service answers, and the next question finds a process."""

import os
import time
from collections.abc import Iterator

import pytest

from autopeft.errors import AutopeftError
from autopeft.service.apart import Apart
from autopeft.service.problems import TooLong


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
