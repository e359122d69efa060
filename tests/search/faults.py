"""Faults done to whole searches on a tiny model. Whatever happens: no finished trial is lost or changed, none is there
twice, and the search ends.

`test_faults.py` does a few of each; this does many, and prints a table:

    python -m tests.search.faults [--kills 20] [--workers 2] [--seed 0]

Processes are found by a mark in their environment (Linux), and no others are touched.
"""

import argparse
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import autopeft
from autopeft.errors import AutopeftError
from autopeft.events import Event, TrialEnded
from autopeft.trial import Status, Trial
from tests.search.faulty import faulty_space
from tests.user import user_folder

ROOT = Path(__file__).parents[2]
MARK = "AUTOPEFT_TESTS_FAULTS"
MOST_SECONDS = 900


@dataclass(frozen=True)
class Survived:
    """What is left of the searches that a fault was done to; all of them ended."""

    fault: str
    times: int
    """How often it was done."""
    trials: Mapping[Status, int]
    kept: int
    """Finished trials that were there when it was done, summed over all times; none of them changed."""
    left: int
    """Processes that were still there half a minute after their driver was killed."""
    seconds: float


@dataclass
class Place:
    """A folder with a model, data, and a database for one kind of fault."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        user_folder(self.folder)

    @property
    def storage(self) -> str:
        return f"sqlite:///{self.folder}/searches.db"

    def resources(self, workers: int = 0) -> dict[str, Any]:
        return {"workers": workers, "storage": self.storage, "folder": str(self.folder / "runs")}

    def settings(self, name: str, trials: int, workers: int = 0, **more: object) -> dict[str, Any]:
        paths = {"model": str(self.folder / "model"), "data": str(self.folder / "reviews.csv")}
        plan = {"space": "quick", "methods": "bitfit,ia3", "max_length": 16, "trials": trials, "sampler": "random"}
        return {**paths, **plan, **self.resources(workers), "name": name, **more}

    def start(self, call: str, *arguments: object, **settings: object) -> "subprocess.Popen[bytes]":
        """A driver in a process of its own."""
        program = f"import autopeft; autopeft.{call}(*{arguments!r}, **{settings!r})"
        environment = {**os.environ, MARK: self.mark, "PYTHONPATH": str(ROOT)}
        with (self.folder / "errors").open("ab") as errors:
            return subprocess.Popen([sys.executable, "-c", program], stderr=errors, env=environment, cwd=self.folder)

    def trials(self, name: str) -> tuple[Trial, ...]:
        """What is remembered of a search; nothing before it is."""
        try:
            return autopeft.open(name, storage=self.storage).trials
        except AutopeftError:
            return ()

    def processes(self, named: str = "") -> list[int]:
        """Processes that drivers of this place started, and those drivers, whose command holds `named`."""
        mark = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes() and named.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found


def ended(trials: tuple[Trial, ...]) -> dict[int, Trial]:
    """Those with an outcome, by number."""
    return {trial.number: trial for trial in trials if trial.outcome is not None}


def require_kept(before: Mapping[int, Trial], after: tuple[Trial, ...]) -> None:
    """No trial that had ended is gone or another one, and no number is there twice."""
    now = ended(after)
    assert all(now.get(number) == trial for number, trial in before.items())
    assert [trial.number for trial in after] == list(range(1, len(after) + 1))


def require_whole(search: autopeft.Search) -> Mapping[Status, int]:
    """The search ended with as many trials as it was to have; returns how they ended."""
    assert search.record.ended is not None
    assert len(search.trials) == search.plan.trials
    require_kept(ended(search.trials), search.trials)
    assert len(ended(search.trials)) == len(search.trials)
    return Counter(trial.status for trial in search.trials)


def killed_drivers(place: Place, kills: int, workers: int, seed: int = 0, trials: int = 60) -> Survived:
    """Kills a driver at a random moment, goes on, and so on; searches that end before enough kills are followed by
    others.
    """
    began, rng = time.monotonic(), random.Random(seed)
    searches, kept, left, done, start_up = 0, 0, 0, 0, 0.0
    name, statuses = "", Counter[Status]()
    while done < kills or name:
        if not name:
            searches += 1
            name = f"killed-{searches}"
        before = ended(place.trials(name))
        known = name in _names(place)
        if done == kills:
            if not known:
                break
            autopeft.resume(name, **place.resources(workers))
        else:
            process = _driver(place, name, known, trials, workers)
            moment = rng.uniform(0.1, 1.3) * start_up if start_up else None
            start_up = max(start_up, _run_until(place, name, process, moment, len(before)))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                done += 1
            assert process.wait() in (0, -signal.SIGKILL), (place.folder / "errors").read_text()
            left += _left_behind(place)
            kept += len(ended(place.trials(name)))
        require_kept(before, place.trials(name))
        if name in _names(place) and (search := autopeft.open(name, storage=place.storage)).record.ended is not None:
            statuses += Counter(require_whole(search))
            name = ""
    return Survived(f"driver killed, {workers} workers", done, statuses, kept, left, time.monotonic() - began)


def _driver(place: Place, name: str, known: bool, trials: int, workers: int) -> "subprocess.Popen[bytes]":
    if known:
        return place.start("resume", name, **place.resources(workers))
    return place.start("search", **place.settings(name, trials, workers))


def _names(place: Place) -> list[str]:
    """The searches that are remembered."""
    if not (place.folder / "searches.db").exists():
        return []
    with closing(sqlite3.connect(place.folder / "searches.db")) as connection:
        try:
            return [name for (name,) in connection.execute("SELECT name FROM searches")]
        except sqlite3.OperationalError:
            return []


def _run_until(place: Place, name: str, process: "subprocess.Popen[bytes]", moment: float | None, had: int) -> float:
    """Waits until a moment, or where there is none for the first outcome; returns how long that took."""
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < MOST_SECONDS:
        if moment is not None and time.monotonic() - began >= moment:
            return 0.0
        if moment is None and len(ended(place.trials(name))) > had:
            return time.monotonic() - began
        time.sleep(0.05)
    return 0.0


def _left_behind(place: Place) -> int:
    """Processes that outlive their driver for half a minute; they are ended then, so that they are counted once."""
    deadline = time.monotonic() + 30
    while (left := place.processes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return len(left)


def killed_workers(place: Place, kills: int, workers: int, seed: int = 0) -> Survived:
    """Kills workers at random moments while they train; each costs the trial that it was training."""
    began, rng = time.monotonic(), random.Random(seed)
    process = place.start("search", **place.settings("workers", 8 * kills, workers))
    done, kept = 0, dict[int, Trial]()
    while process.poll() is None and time.monotonic() - began < MOST_SECONDS:
        victims = place.processes("Trainable.train")
        if done < kills and victims:
            os.kill(rng.choice(victims), signal.SIGKILL)
            done += 1
            kept |= ended(place.trials("workers"))
            time.sleep(rng.uniform(1, 6))
        time.sleep(0.05)
    assert process.wait() == 0, (place.folder / "errors").read_text()
    search = autopeft.open("workers", storage=place.storage)
    statuses = require_whole(search)
    require_kept(kept, search.trials)
    reasons = [trial.outcome.reason for trial in search.trials if trial.outcome and trial.status is Status.FAILED]
    assert len(reasons) <= done
    assert all("the worker was lost" in reason for reason in reasons), reasons
    return Survived("worker killed", done, statuses, len(kept), _left_behind(place), time.monotonic() - began)


def full_disk(place: Place) -> Survived:
    """After the second trial no file can grow; later there is room again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: Event) -> None:
        if isinstance(event, TrialEnded) and event.trial.number == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

    def room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return _answered_and_resumed(place, "disk full", fill, room)


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
    return Survived(fault, 1, require_whole(search), len(before), 0, time.monotonic() - began)


def locked_for_a_moment(place: Place, seconds: float = 2.0) -> Survived:
    """After every trial another program locks the database for a moment; the search waits."""
    began, times = time.monotonic(), 0

    def lock(event: Event) -> None:
        nonlocal times
        if isinstance(event, TrialEnded):
            times += 1
            threading.Timer(seconds, _lock(place).close).start()

    search = autopeft.search(**place.settings("waited", 3, on_event=lock))
    return Survived("database locked for a moment", times, require_whole(search), 0, 0, time.monotonic() - began)


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
        assert (trial.status is Status.FAILED) == bool(wanted), trial.outcome.reason
    assert {trial.candidate.name for trial in search.trials} == {"bitfit", *reasons}
    return Survived(
        f"methods that {', '.join(reasons)}", statuses[Status.FAILED], statuses, 0, 0, time.monotonic() - began
    )


RAISES = {"raise": "RuntimeError: a defect of the method", "nan": "no longer finite at step"}
HANGS = {"die": "the worker was lost", "hang": "no rung was reached within the time-out of"}


def every(folder: Path, kills: int, workers: int, seed: int) -> Iterator[Survived]:
    """All faults, the long form."""
    yield killed_drivers(Place(folder / "driver"), kills, 0, seed)
    yield killed_drivers(Place(folder / "driver-and-workers"), kills, workers, seed)
    yield killed_workers(Place(folder / "worker"), max(1, kills // 4), workers, seed)
    yield full_disk(Place(folder / "disk"))
    yield locked_for_long(Place(folder / "locked"))
    yield locked_for_a_moment(Place(folder / "waited"))
    yield misbehaving(Place(folder / "raises"), 0, RAISES)
    yield misbehaving(Place(folder / "hangs"), workers, RAISES | HANGS, timeout=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    columns = ("times", "finished", "stopped", "failed", "kept", "left", "seconds")
    print(f"{'fault':<36}", *(f"{each:>8}" for each in columns))
    with tempfile.TemporaryDirectory() as folder:
        for row in every(Path(folder), given.kills, given.workers, given.seed):
            counts = [row.trials.get(status, 0) for status in (Status.FINISHED, Status.STOPPED, Status.FAILED)]
            cells = (row.times, *counts, row.kept, row.left, round(row.seconds))
            print(f"{row.fault:<36}", *(f"{each:>8}" for each in cells), flush=True)


if __name__ == "__main__":
    main()
