"""A driver that is killed leaves a folder and processes, and the next one clears them, and nothing else."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autopeft.searching import leftovers
from autopeft.searching.leftovers import clear, marked, own_folder, processes_of

_DRIVER = """
import subprocess, sys, time
from autopeft.searching import leftovers
from autopeft.searching.leftovers import marked, own_folder
with own_folder() as folder:
    with marked(folder):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    print(folder, flush=True)
    time.sleep(300)
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def drivers() -> Iterator[Callable[[], tuple["subprocess.Popen[str]", Path]]]:
    """Starts a driver with one process; gives it and its folder."""
    started = []

    def start() -> tuple["subprocess.Popen[str]", Path]:
        process = subprocess.Popen([sys.executable, "-c", _DRIVER], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        with process.stdout as said:
            return process, Path(said.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.wait()
    clear()


def test_what_a_killed_driver_left_is_cleared_at_once_and_what_a_living_one_has_is_not(
    drivers: Callable[[], tuple["subprocess.Popen[str]", Path]], tmp_path: Path
) -> None:
    (dead, left), (_, used) = drivers(), drivers()
    assert [len(processes_of(each)) for each in (left, used)] == [1, 1], "drivers themselves carry no mark"
    _kill(dead)
    assert _so(lambda: not processes_of(left) and list(tmp_path.iterdir()) == [used])
    assert len(processes_of(used)) == 1


def test_what_nobody_cleared_the_next_driver_clears_and_nothing_else(
    drivers: Callable[[], tuple["subprocess.Popen[str]", Path]], tmp_path: Path
) -> None:
    (dead, left), (_, used) = drivers(), drivers()
    others = tmp_path / "autopeft-by-somebody"
    others.mkdir()
    for waiting in _waiting_for(left):
        os.kill(waiting, signal.SIGKILL)
    _kill(dead)
    assert len(processes_of(left)) == 1
    clear()
    assert not processes_of(left)
    assert sorted(tmp_path.iterdir()) == sorted([others, used])
    assert len(processes_of(used)) == 1


def test_a_process_without_the_mark_is_found_by_the_session_that_it_writes_into(tmp_path: Path) -> None:
    """Ray's agents write their titles over their environment."""
    with own_folder() as folder:
        (folder / "session").mkdir()
        sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
        with (folder / "session" / "log").open("w") as log, (tmp_path / "log").open("w") as elsewhere:
            agent = subprocess.Popen(sleep, stdout=log)
            other = subprocess.Popen(sleep, stdout=elsewhere)
        with (folder / "session" / "log").open() as read:
            reader = subprocess.Popen(sleep, stdin=read)
        try:
            assert _so(lambda: agent.pid in processes_of(folder))
            assert other.pid not in processes_of(folder)
            assert reader.pid not in processes_of(folder)
        finally:
            for process in (agent, other, reader):
                process.kill()
                process.wait()
    (tmp_path / "log").unlink()


def _kill(driver: "subprocess.Popen[str]") -> None:
    driver.kill()
    driver.wait()


def _so(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def _waiting_for(folder: Path) -> list[int]:
    """The process that waits for the death of a folder's driver."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if str(folder).encode() in command and leftovers.__file__.encode() in command:
                found.append(int(process.name))
    assert len(found) == 1
    return found


def test_a_driver_that_ends_leaves_nothing_and_its_environment_is_as_before(tmp_path: Path) -> None:
    before = dict(os.environ)
    with own_folder() as folder:
        with marked(folder):
            assert dict(os.environ) != before
        assert dict(os.environ) == before
        (folder / "session").mkdir()
        clear()
        assert (folder / "session").is_dir()
    assert not list(tmp_path.iterdir())


def test_a_driver_that_ends_while_it_holds_a_file_of_its_session_ends_by_itself() -> None:
    """As Ray's drivers do, whose logs lie there."""
    holding = """
import os
from autopeft.searching.leftovers import own_folder
with own_folder() as folder:
    os.mkdir(folder / "session")
    log = open(folder / "session" / "log", "w")
log.write("goes on")
"""
    assert subprocess.run([sys.executable, "-c", holding], check=False).returncode == 0
