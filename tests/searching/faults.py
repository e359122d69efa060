"""Faults done to whole searches on a tiny model. Whatever happens: no finished trial is lost or changed, none is there
twice, all weights that a search keeps can be read and no others are there, no process is left over, and it ends.

`test_faults.py` does a few of each; this does many, and prints a table:

    python -m tests.searching.faults [--kills 20] [--workers 2] [--seed 0]
"""

import argparse
import os
import random
import resource
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import autopeft
from autopeft.errors import AutopeftError
from autopeft.events import Event, TrialEnded
from autopeft.trial import Status, Trial
from tests.searching.faulty import faulty_space
from tests.searching.place import ROOT, Place, ended, gone_on_with, require_kept, require_whole

MOST_SECONDS = 900
IN_A_SEARCH = 2
"""Kills in each search, at moments that are drawn over all of its trials."""
WHILE_STARTING = 5
"""One of so many kills comes while its driver starts."""
LEFT_ALONE = 4
"""After one of so many kills no command follows until nothing is left of the driver, or for a minute."""


@dataclass(frozen=True)
class Survived:
    """What is left of the searches that a fault was done to; all of them ended."""

    fault: str
    times: int
    """How often it was done; 0 where it could not be."""
    trials: Mapping[Status, int] = field(default_factory=dict)
    kept: int = 0
    """Finished trials that were there when it was done, summed over all times; none of them changed."""
    read: int = 0
    """Folders of weights that were read back."""
    went_on: int = 0
    """Trials that were killed after a rung and reached the next without reaching that anew."""
    left: int = 0
    """Processes that were still there after the next command, or after a minute without one."""
    seconds: float = 0.0
    note: str = ""


def killed_drivers(place: Place, kills: int, workers: int, seed: int = 0, trials: int = 24) -> Survived:
    """Kills a driver anywhere in a search, goes on, and so on; searches that end are followed by others."""
    began, rng = time.monotonic(), random.Random(seed)
    kept, read, left, went_on = 0, 0, 0, 0
    statuses = Counter[Status]()
    moments: list[float] = []
    searches, name, ahead = 0, "", list[int]()
    while len(moments) < kills or name:
        if not name:
            searches += 1
            name = f"killed-{searches}"
            ahead = sorted(rng.randrange(trials) for _ in range(min(IN_A_SEARCH, kills - len(moments))))
        known = place.trials(name)
        before = ended(known)
        process = _driver(place, name, trials, workers)
        sitting = place.sitting
        if ahead and len(moments) < kills:
            starting = len(moments) % WHILE_STARTING == WHILE_STARTING - 1
            _wait_for_moment(place, name, process, rng, 0 if starting else ahead.pop(0) + 1)
            process.kill()
        how = process.wait(MOST_SECONDS)
        assert how in (0, -signal.SIGKILL), place.errors()
        if how:
            moments.append(place.ended(name) / trials)
        # The next command has begun since those were killed, and long ago.
        left += sum(len(place.processes(earlier)) for earlier in range(1, sitting))
        if rng.randrange(LEFT_ALONE) == 0:
            left += place.left(sitting=sitting)
        kept += len(before)
        require_kept(before, place.trials(name))
        went_on += gone_on_with(known, place.trials(name))
        if place.known(name) and (search := autopeft.open(name, storage=place.storage)).record.ended is not None:
            statuses += Counter(require_whole(search))
            read += place.read_back(name)
            name = ""
    place.require_nothing_left()
    fault = f"driver killed, {workers} workers"
    return Survived(fault, kills, statuses, kept, read, went_on, left, time.monotonic() - began, _spread(moments))


def _spread(moments: list[float]) -> str:
    """How the kills lie in their searches, by the share of trials that had ended."""
    quarters = Counter(min(int(4 * each), 3) for each in moments)
    return "kills by quarter of their searches: " + ", ".join(str(quarters[each]) for each in range(4))


def _driver(place: Place, name: str, trials: int, workers: int) -> "subprocess.Popen[bytes]":
    if place.known(name):
        return place.start("resume", name, **place.resources(workers))
    return place.start("search", **place.settings(name, trials, workers))


def _wait_for_moment(
    place: Place, name: str, process: "subprocess.Popen[bytes]", rng: random.Random, until: int
) -> None:
    """Waits until so many trials have ended, and for a part of what one more takes; 0 is a moment of the start."""
    had = place.ended(name)
    if until == 0:
        moment = time.monotonic() + rng.uniform(0.5, 8.0)
        _wait(process, lambda: time.monotonic() > moment or place.ended(name) > had)
        return
    first: list[float] = []

    def reached() -> bool:
        now = place.ended(name)
        if now > had and not first:
            first.append(time.monotonic())
        return now >= until

    _wait(process, reached)
    pace = (time.monotonic() - first[0]) / max(place.ended(name) - had, 1) if first else 0.0
    pause = time.monotonic() + rng.uniform(0.0, pace)
    _wait(process, lambda: time.monotonic() >= pause)


def _wait(process: "subprocess.Popen[bytes]", done: Callable[[], bool]) -> None:
    """Until it is so, or the process has ended."""
    deadline = time.monotonic() + MOST_SECONDS
    while process.poll() is None and not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def killed_workers(place: Place, kills: int, workers: int, seed: int = 0) -> Survived:
    """Kills workers anywhere in a search while they train; the trials that they were training are given again."""
    began, rng = time.monotonic(), random.Random(seed)
    process = place.start("search", **place.settings("workers", 6 * kills, workers))
    ahead = sorted(rng.randrange(5 * kills) for _ in range(kills))
    done, kept = 0, dict[int, Trial]()
    while process.poll() is None and time.monotonic() - began < MOST_SECONDS:
        victims = place.processes(named="Trainable.train")
        if victims and ahead and place.ended("workers") >= ahead[0]:
            ahead.pop(0)
            os.kill(rng.choice(victims), signal.SIGKILL)
            done += 1
            kept |= ended(place.trials("workers"))
        time.sleep(rng.uniform(0.02, 0.5))
    assert process.wait() == 0, place.errors()
    search = autopeft.open("workers", storage=place.storage)
    statuses = require_whole(search)
    require_kept(kept, search.trials)
    given_again = {int(number) for number in search.record.facts.get("given_again", {})}
    lost = {trial.number for trial in search.trials if trial.status is Status.LOST}
    assert len(given_again) + len(lost) <= done
    assert given_again, "no kill met a trial"
    assert lost <= given_again
    assert not statuses.get(Status.FAILED)
    left, read = place.left(), place.read_back("workers")
    place.require_nothing_left()
    note = f"{len(given_again)} trials given again, {len(given_again - lost)} of them ended well"
    return Survived("worker killed", done, statuses, len(kept), read, 0, left, time.monotonic() - began, note)


def full_disk_of_the_database(place: Place) -> Survived:
    """After the second trial no file can grow; later there is room again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: Event) -> None:
        if isinstance(event, TrialEnded) and event.trial.number == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

    def room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return _answered_and_resumed(place, "disk full for the database", fill, room)


def full_disk_of_the_weights(place: Place) -> Survived:
    """After the second trial the disk for weights is full, after the fourth there is room again: the trials between
    are lost for that reason, and leave nothing. Needs the right to mount.
    """
    began, fault = time.monotonic(), "disk full for the weights"
    runs = place.folder / "runs"
    runs.mkdir()
    with _small_disk(runs) as mounted:
        if not mounted:
            return Survived(fault, 0, note="not done: this user may not mount a small disk")

        def happens(event: Event) -> None:
            if isinstance(event, TrialEnded) and event.trial.number == 2:
                _fill(runs / "filler")
            if isinstance(event, TrialEnded) and event.trial.number == 4:
                (runs / "filler").unlink()

        search = autopeft.search(**place.settings("weights", 6, on_event=happens))
        statuses = require_whole(search)
        for trial in search.trials:
            assert trial.outcome is not None
            full = trial.number in (3, 4)
            assert (trial.status is Status.LOST) == full, trial.outcome.reason
            assert ("No space left on device" in trial.outcome.reason) == full, trial.outcome.reason
        return Survived(fault, 1, statuses, 2, place.read_back("weights"), seconds=time.monotonic() - began)


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """Gives a folder 8 MiB of its own; says whether that was allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _fill(file: Path) -> None:
    """Grows a file until the disk is full, to the last byte."""
    with file.open("wb", buffering=0) as stream:
        for size in (65536, 4096, 1):
            try:
                while stream.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


def locked_for_long(place: Place) -> Survived:
    """After the second trial another program locks the database for longer than anybody waits."""
    held: list[sqlite3.Connection] = []

    def lock(event: Event) -> None:
        if isinstance(event, TrialEnded) and event.trial.number == 2:
            held.append(_lock(place))

    with patch("autopeft.storage.database._PATIENCE", 0.3):
        return _answered_and_resumed(place, "database locked for long", lock, lambda: held[0].close())


def _answered_and_resumed(
    place: Place, fault: str, happens: Callable[[Event], None], passes: Callable[[], None]
) -> Survived:
    """The search ends with one sentence and all that had ended, and is gone on with when the fault has passed."""
    began = time.monotonic()
    answer = ""
    try:
        autopeft.search(**place.settings("answered", 4, on_event=happens))
    except AutopeftError as error:
        answer = str(error)
    finally:
        passes()
    assert "cannot use the database" in answer
    before = ended(place.trials("answered"))
    assert len(before) == 2
    search = autopeft.resume("answered", **place.resources())
    require_kept(before, search.trials)
    read = place.read_back("answered")
    return Survived(fault, 1, require_whole(search), len(before), read, seconds=time.monotonic() - began)


def locked_for_a_moment(place: Place, seconds: float = 2.0) -> Survived:
    """After every trial another program locks the database for a moment; the search waits."""
    began, times = time.monotonic(), 0

    def lock(event: Event) -> None:
        nonlocal times
        if isinstance(event, TrialEnded):
            times += 1
            threading.Timer(seconds, _lock(place).close).start()

    search = autopeft.search(**place.settings("waited", 3, on_event=lock))
    statuses, read = require_whole(search), place.read_back("waited")
    return Survived("database locked for a moment", times, statuses, 0, read, seconds=time.monotonic() - began)


def _lock(place: Place) -> sqlite3.Connection:
    """A transaction that keeps all others from writing until it is closed."""
    connection = sqlite3.connect(place.folder / "searches.db", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def misbehaving(place: Place, workers: int, reasons: Mapping[str, str], **more: object) -> Survived:
    """Methods that misbehave cost their own trials, each with its reason; BitFit beside them trains."""
    began = time.monotonic()
    space = faulty_space(place.folder / f"space-{workers}", *reasons)
    settings = place.settings("faulty", 2 + 2 * len(reasons), workers, space=str(space), methods=(), **more)
    with patch.dict(os.environ, {"PYTHONPATH": str(ROOT)}):
        search = autopeft.search(**settings)
    statuses = require_whole(search)
    for trial in search.trials:
        assert trial.outcome is not None
        wanted = reasons.get(trial.candidate.name, "")
        assert wanted in trial.outcome.reason, trial.outcome.reason
        bad = Status.LOST if trial.candidate.name == "die" else Status.FAILED
        assert (trial.status is bad) == bool(wanted), trial.outcome.reason
    assert {trial.candidate.name for trial in search.trials} == {"bitfit", *reasons}
    times, read = sum(trial.candidate.name != "bitfit" for trial in search.trials), place.read_back("faulty")
    fault = f"methods that {', '.join(reasons)}"
    return Survived(fault, times, statuses, 0, read, seconds=time.monotonic() - began)


_TIME_OUT = "no rung was reached within the time-out of"
RAISES = {"raise": "RuntimeError: a defect of the method", "nan": "no longer finite at step"}
ENDS = {"die": "the worker was lost", "spoil": "RuntimeError: CUDA error: device-side assert triggered"}
HANGS = {"sleep": _TIME_OUT, "spin": _TIME_OUT, "stop": _TIME_OUT}


def every(folder: Path, kills: int, workers: int, seed: int) -> Iterator[Survived]:
    """All faults, the long form."""

    def at(name: str) -> Place:
        return Place(folder / name)

    yield killed_drivers(at("driver"), max(1, kills // 10), 0, seed)
    yield killed_drivers(at("driver-and-workers"), kills, workers, seed)
    yield killed_workers(at("worker"), max(1, kills // 2), workers, seed)
    yield full_disk_of_the_database(at("disk"))
    yield full_disk_of_the_weights(at("weights"))
    yield locked_for_long(at("locked"))
    yield locked_for_a_moment(at("waited"))
    yield misbehaving(at("raises"), 0, RAISES)
    yield misbehaving(at("ends"), workers, RAISES | ENDS)
    yield misbehaving(at("hangs"), workers, HANGS, timeout="30s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    statuses = (Status.FINISHED, Status.STOPPED, Status.FAILED, Status.LOST)
    columns = ("times", "finished", "stopped", "failed", "lost", "kept", "read", "went on", "left", "seconds")
    print(f"{'fault':<32}", *(f"{each:>8}" for each in columns))
    with tempfile.TemporaryDirectory() as folder:
        for row in every(Path(folder), given.kills, given.workers, given.seed):
            counts = [row.trials.get(status, 0) for status in statuses]
            cells = (row.times, *counts, row.kept, row.read, row.went_on, row.left, round(row.seconds))
            print(f"{row.fault:<32}", *(f"{each:>8}" for each in cells), f" {row.note}", flush=True)
            assert row.left == 0, f"{row.left} processes were left"


if __name__ == "__main__":
    main()
