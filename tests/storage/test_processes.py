"""Several processes on one database, and a process that is killed."""

import fcntl
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from autopeft.errors import AutopeftError
from autopeft.storage.repository import Repository
from tests.reports.records import bare, trial

ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from autopeft.storage.repository import Repository
from autopeft.trial import Status
from tests.reports.records import bare, trial

with Repository(sys.argv[1]) as repository:
    repository.create(bare(ended=False))
    for number in range(1, 100_000):
        repository.record("bare", trial(number, accuracies=(), status=Status.TRAINING))
        repository.record("bare", trial(number, accuracies=(0.7,), status=Status.TRAINING))
        repository.record("bare", trial(number))
        print(number, flush=True)
"""
CREATOR = """
import sys
from dataclasses import replace
import alembic.command
from autopeft.storage.repository import Repository
from tests.reports.records import record

print("ready", flush=True)
sys.stdin.readline()
with Repository(sys.argv[1]) as repository:
    repository.create(replace(record(), name=sys.argv[2]))
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_a_search_is_run_by_one_process_at_a_time(url: str) -> None:
    with Repository(url) as first:
        first.create(bare())
        with Repository(url) as second:
            for write in (lambda: second.claim("bare"), lambda: second.record("bare", trial(1))):
                with pytest.raises(AutopeftError) as error:
                    write()
                assert (
                    str(error.value) == "search 'bare' is being run by another process; wait until it ends, or stop it."
                )
            first.record("bare", trial(1))
            assert second.load("bare").trials == (trial(1),)
    with Repository(url) as third:
        third.record("bare", trial(2))
        assert third.load("bare").trials == (trial(1), trial(2))


def test_a_lock_that_cannot_be_opened_is_answered(tmp_path: Path) -> None:
    with Repository(f"sqlite:///{tmp_path}/searches.db") as repository:
        repository.create(bare())
    (tmp_path / "searches.db-search-1.lock").mkdir()
    with (
        Repository(f"sqlite:///{tmp_path}/searches.db") as repository,
        pytest.raises(AutopeftError, match="cannot be opened"),
    ):
        repository.record("bare", trial(1))


def test_a_lock_that_its_holder_removes_at_that_moment_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[Path] = []

    def remove_then_lock(descriptor: int, operation: int) -> None:
        if not removed:
            removed.extend(tmp_path.glob("*.lock"))
            removed[0].unlink()
        flock(descriptor, operation)

    flock = fcntl.flock
    monkeypatch.setattr("fcntl.flock", remove_then_lock)
    with Repository(f"sqlite:///{tmp_path}/searches.db") as repository:
        repository.create(bare())
        assert removed[0].exists()


def test_two_searches_are_run_at_the_same_time(url: str) -> None:
    with Repository(url) as first, Repository(url) as second:
        first.create(bare())
        second.create(replace(bare(), name="other"))
        for number in (1, 2):
            first.record("bare", trial(number))
            second.record("other", trial(number))
        assert first.load("bare").trials == second.load("other").trials


def test_a_killed_process_loses_nothing_that_was_recorded_and_its_search_can_be_gone_on_with(url: str) -> None:
    process = start(DRIVER, url)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 20:
            break
    with Repository(url) as repository:
        with pytest.raises(AutopeftError, match="being run by another process"):
            repository.claim("bare")
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        told = int(rest.split()[-1]) if rest.split() else 20
        trials = repository.load("bare").trials
        assert trials[:told] == tuple(trial(number) for number in range(1, told + 1))
        assert len(trials) <= told + 1
        repository.record("bare", trial(told + 2))
        assert repository.load("bare").trials[-1] == trial(told + 2)


def test_processes_that_open_a_fresh_database_at_once_all_succeed(url: str) -> None:
    processes = {name: start(CREATOR, url, name) for name in ("one", "two", "three")}
    for process in processes.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes.values():
        process.communicate(timeout=60)
        assert process.returncode == 0
    with Repository(url) as repository:
        assert set(repository.names()) == set(processes)
