"""Searches in the background, by processes of their own: waited for, stopped, gone on with, and outliving whoever began
them.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import autopeft
from autopeft.errors import AutopeftError
from tests.user import user_folder

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("background"))


def settings(place: Path, name: str, **more: Any) -> dict[str, Any]:
    return {
        "model": str(place / "model"),
        "data": str(place / "reviews.csv"),
        "name": name,
        "workers": 0,
        "space": "quick",
        "methods": "bitfit",
        "max_length": 16,
        "trials": 1,
        "storage": f"sqlite:///{place}/searches.db",
        "folder": str(place / "runs"),
        **more,
    }


@pytest.mark.long
def test_a_search_outlives_the_program_that_began_it_and_is_found_by_its_name(place: Path) -> None:
    program = f"import autopeft; print(autopeft.start(**{settings(place, 'alone')!r}).log)"
    began = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    storage, until = f"sqlite:///{place}/searches.db", time.monotonic() + PATIENCE
    log = Path(began.stdout.strip())
    while time.monotonic() < until and "done: 1 trial ended" not in log.read_text():
        time.sleep(0.5)
    assert [each.status.value for each in autopeft.open("alone", storage).trials] == ["finished"], log.read_text()


def test_a_search_that_is_stopped_goes_on_by_resume(place: Path) -> None:
    running = autopeft.start(**settings(place, "stopped", trials=200))
    until = time.monotonic() + PATIENCE
    while not running.trials and running.is_running and time.monotonic() < until:
        time.sleep(0.2)
    assert repr(running).startswith("<Running 'stopped': running, ")
    running.stop()
    assert not running.is_running
    assert 0 < len(running.trials) < 200
    search = running.wait()
    assert search.record.ended is None
    where = {name: settings(place, "")[name] for name in ("workers", "storage", "folder")}
    done = autopeft.resume("stopped", trials=len(search.trials), **where)
    assert done.record.ended is not None


def test_what_is_found_out_later_is_raised_by_who_waits(place: Path) -> None:
    running = autopeft.start(**settings(place, "slip", label="opinon"))
    with pytest.raises(AutopeftError, match="Did you mean 'opinion'"):
        running.wait()
    with pytest.raises(AutopeftError, match="Did you mean 'opinion'"):
        running.wait()
    assert running.trials == ()


def test_slips_are_answered_before_a_process_begins(place: Path) -> None:
    with pytest.raises(AutopeftError, match="there is no model folder"):
        autopeft.start(**settings(place, "early", model="no/such/model"))
    with pytest.raises(AutopeftError, match="cannot be named"):
        autopeft.start(**settings(place, "../early"))
    assert not [*place.rglob("early.log")]


def test_who_waits_too_long_hears_of_it_and_the_search_goes_on(place: Path) -> None:
    running = autopeft.start(**settings(place, "late"))
    with pytest.raises(TimeoutError, match="still runs"):
        running.wait(0.01)
    assert running.is_running
    running.stop()
