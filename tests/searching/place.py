"""A place for searches that faults are done to: a tiny model, data, a database, and drivers in processes of their own.

Processes are found by marks in their environment (Linux), and no others are touched.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import autopeft
from autopeft.errors import AutopeftError
from autopeft.trial import Rung, Status, Trial
from tests.user import user_folder

ROOT = Path(__file__).parents[2]
MARK = "AUTOPEFT_TESTS_FAULTS"


@dataclass
class Place:
    """A folder with a model, data, and a database for one kind of fault."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    sitting: int = 0
    """How many drivers were started."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        user_folder(self.folder)

    @cached_property
    def temporary(self) -> Path:
        """Where drivers keep temporary files; short, because the paths of sockets are."""
        return Path(tempfile.mkdtemp(prefix="f-", dir="/tmp"))

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
        self.sitting += 1
        program = f"import autopeft; autopeft.{call}(*{arguments!r}, **{settings!r})"
        environment = {
            **os.environ,
            MARK: f"{self.mark}-{self.sitting}",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
        }
        with (self.folder / "errors").open("ab") as errors:
            return subprocess.Popen([sys.executable, "-c", program], stderr=errors, env=environment, cwd=self.folder)

    def errors(self) -> str:
        return (self.folder / "errors").read_text(errors="replace")[-4000:]

    def trials(self, name: str) -> tuple[Trial, ...]:
        """What is remembered of a search; nothing before it is."""
        try:
            return autopeft.open(name, storage=self.storage).trials
        except AutopeftError:
            return ()

    def ended(self, name: str) -> int:
        """How many trials of a search have an outcome; quicker than to read them."""
        count = "SELECT count(*) FROM outcomes JOIN searches ON searches.id = search_id WHERE name = ?"
        return int(self._asked(count, name) or 0)

    def known(self, name: str) -> bool:
        return bool(self._asked("SELECT count(*) FROM searches WHERE name = ?", name))

    def _asked(self, question: str, name: str) -> int | None:
        if not (self.folder / "searches.db").exists():
            return None
        with closing(sqlite3.connect(self.folder / "searches.db", timeout=30)) as connection:
            try:
                (answer,) = connection.execute(question, (name,)).fetchone()
            except sqlite3.OperationalError:
                return None
        return int(answer)

    def processes(self, sitting: int | None = None, named: str = "") -> list[int]:
        """Processes of this place, or of one driver, the driver among them, whose command holds `named`."""
        mark = f"{MARK}={self.mark}-" + ("" if sitting is None else f"{sitting}\0")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark.encode() in (folder / "environ").read_bytes() + b"\0":
                    command = (folder / "cmdline").read_bytes()
                    found += [int(folder.name)] if named.encode() in command else []
            except OSError:
                continue
        return found

    def left(self, seconds: float = 60.0, sitting: int | None = None) -> int:
        """How many processes of dead drivers outlive so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := self.processes(sitting)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return len(left)

    def require_nothing_left(self) -> None:
        """Neither processes nor temporary files of any driver."""
        assert not self.left(seconds=10)
        assert not [each for each in self.temporary.iterdir() if each.name.startswith(("autopeft-", "ray"))]
        shutil.rmtree(self.temporary)

    def read_back(self, name: str) -> int:
        """Loads the weights of every trial that ended with a model which no other one beats in all that is compared,
        each of which must be there, finite, and answer. Returns how many. No other folder of weights is there, and
        nothing to go on from.
        """
        finished = [trial for trial in self.trials(name) if trial.is_model and trial.outcome is not None]
        ahead = {trial.number for trial in autopeft.open(name, storage=self.storage).front}
        kept = [each for each in finished if each.number in ahead or not any(_beats(other, each) for other in finished)]
        folders = [Path(trial.artifact) for trial in kept]
        for folder in folders:
            tensors = [each for file in folder.rglob("*.safetensors") for each in load_file(file).values()]
            assert tensors, folder
            assert all(torch.isfinite(each).all() for each in tensors), folder
            assert len(autopeft.load(folder).predict(["the film was good"])) == 1
        if folders:
            there = {each for each in folders[0].parent.iterdir() if each.is_dir()}
            assert there == {*folders}, sorted(there ^ {*folders})
            assert not [*folders[0].parent.glob("*.state")]
        return len(folders)


def _beats(one: Trial, other: Trial) -> bool:
    """Whether one trial is worth more than another, whatever is asked for; of equal ones the earlier is."""
    mine, its = _compared(one), _compared(other)
    return all(a <= b for a, b in zip(mine, its, strict=True)) and (mine != its or one.number < other.number)


def _compared(trial: Trial) -> list[float]:
    """Of a trial that was stopped nothing is measured."""
    assert trial.outcome is not None
    predicted, measured = trial.predicted, trial.outcome.measured
    costs = ("memory", "trainable", "stored", "flops", "overhead", "time")
    real = [getattr(measured, name, None) for name in costs]
    known = [predicted.value(name) for name in costs]
    held = [value if seen is None else max(value, seen) for value, seen in zip(known, real, strict=True)]
    return [-trial.value("score"), *known, *held]


def ended(trials: tuple[Trial, ...]) -> dict[int, Trial]:
    """Those with an outcome, by number."""
    return {trial.number: trial for trial in trials if trial.outcome is not None}


def require_kept(before: Mapping[int, Trial], after: tuple[Trial, ...]) -> None:
    """No trial that had ended is gone or another one, and no number is there twice."""
    now = ended(after)
    assert all(now.get(number) == trial for number, trial in before.items())
    assert [trial.number for trial in after] == list(range(1, len(after) + 1))


def gone_on_with(before: tuple[Trial, ...], after: tuple[Trial, ...]) -> int:
    """How many trials that had reached a rung, but not ended, have reached more since; what they had reached is as it
    was, to the second that it took.
    """
    now = {trial.number: trial for trial in after}
    begun = [trial for trial in before if trial.outcome is None and trial.curve]
    further = [trial for trial in begun if len(now[trial.number].curve) > len(trial.curve)]
    assert all(_reached(now[trial.number])[: len(trial.curve)] == _reached(trial) for trial in further)
    return len(further)


def _reached(trial: Trial) -> list[Rung]:
    """Its curve; of its weights those of the last rung are there, and a record says where."""
    return [replace(rung, artifact="") for rung in trial.curve]


def require_whole(search: autopeft.Search) -> Mapping[Status, int]:
    """The search ended with as many trials as it was to have; returns how they ended."""
    assert search.record.ended is not None
    assert len(search.trials) == search.plan.trials
    require_kept(ended(search.trials), search.trials)
    assert len(ended(search.trials)) == len(search.trials)
    return Counter(trial.status for trial in search.trials)
