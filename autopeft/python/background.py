"""Searches in the background: each in a process of its own, which outlives the program that began it."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autopeft.errors import AutopeftError
from autopeft.objectives import SCORE
from autopeft.plan import AUTO, COMPLETION, Budget, Plan, Resources
from autopeft.python.asked import plan_of, resources_of
from autopeft.python.process import INTERRUPTED, REFUSED
from autopeft.python.search import Search
from autopeft.reports.wording import plural
from autopeft.searching.search import name_of_new, startable
from autopeft.storage.repository import Repository
from autopeft.trial import Trial

if TYPE_CHECKING:
    import torch

    from autopeft.tasks.base import Task

_PATIENCE = 60.0
"""Seconds until a search that does not end is interrupted once more."""
_begun: list["subprocess.Popen[bytes]"] = []
"""All processes, which would be complained of where they were forgotten."""


class Running:
    """A search that `autopeft.start` began. Its process goes on when this one ends, and `autopeft.open` finds it by its
    name from anywhere; one that was killed goes on by `autopeft.resume`.
    """

    def __init__(self, name: str, storage: str, log: Path, process: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.log = log
        """The file with all that it says, line by line."""
        self._storage = storage
        self._process = process
        self._why = ""

    def __repr__(self) -> str:
        found = self._found()
        trials = f"{plural(len(found.trials), 'trial')}, {len(found.front)} on the front" if found else "no trial yet"
        return f"<Running '{self.name}': {'running' if self.is_running else 'ended'}, {trials}>"

    @property
    def is_running(self) -> bool:
        """Whether its process has not ended."""
        return self._process.poll() is None

    @property
    def trials(self) -> tuple[Trial, ...]:
        """What is trained so far; nothing before the search is prepared."""
        found = self._found()
        return () if found is None else found.trials

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials that no other one beats, so far."""
        found = self._found()
        return () if found is None else found.front

    @property
    def search(self) -> Search:
        """The search as it is now. Raises AutopeftError while it is still prepared."""
        return Search(self.name, self._storage)

    def wait(self, timeout: float | None = None) -> Search:
        """The search, when its process has ended; interrupted while it waits, it goes on. Raises TimeoutError after so
        many seconds, and AutopeftError where the search could not be made.
        """
        if not self._has_ended(timeout):
            raise TimeoutError(f"search '{self.name}' still runs after {timeout} seconds")
        code = self._process.returncode
        if code == REFUSED:
            raise AutopeftError(self._why)
        if code not in (0, INTERRUPTED):
            raise AutopeftError(
                f"the process of search '{self.name}' ended with {code} before the search did: '{self.log}' tells why, "
                f"and autopeft.resume('{self.name}') goes on with it."
            )
        return self.search

    def stop(self) -> None:
        """Interrupts the search, and returns when it has ended; `autopeft.resume` goes on with it. Stopped before it
        was prepared, nothing is left of it.
        """
        while self.is_running:
            self._process.send_signal(signal.SIGINT)
            self._has_ended(_PATIENCE)

    def _has_ended(self, timeout: float | None) -> bool:
        """Whether its process ended within so many seconds; then it has said why."""
        if self._process.stdout is not None and not self._process.stdout.closed:
            try:
                said, _ = self._process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                return False
            self._why = said.decode(errors="replace")
        return True

    def _found(self) -> Search | None:
        try:
            return self.search
        except AutopeftError:
            return None


def start(
    model: str | Path | Plan,
    data: str | Path | None = None,
    *,
    text: str | Sequence[str] = (),
    label: str | None = None,
    columns: str | Mapping[str, str | Sequence[str]] | None = None,
    separator: str | None = None,
    task: "str | type[Task]" = AUTO,
    metric: str | Callable[..., Any] = AUTO,
    space: str | Path = AUTO,
    methods: str | Sequence[str] = (),
    objectives: str | Sequence[str] = (SCORE, "memory", "trainable"),
    budget: Budget | Mapping[str, Any] | None = None,
    trials: int | None = None,
    time: str | float | None = None,
    max_length: int | None = None,
    packing: bool = False,
    loss_on: str = COMPLETION,
    sampler: str = "known_costs",
    seed: int = 0,
    confirm: int = 0,
    warm_start: bool = False,
    keep: str = "front",
    dtype: "str | torch.dtype" = AUTO,
    trust_remote_code: bool = False,
    workers: int | None = None,
    gpus_per_trial: float | None = None,
    address: str | None = None,
    timeout: str | float | None = None,
    storage: str = Resources.storage,
    folder: str | Path = Resources.folder,
    name: str | None = None,
) -> Running:
    """Begins a search in a process of its own, and returns at once; `wait` and `stop` are methods of what it returns.

    >>> running = start("bert-base-uncased", "train.csv", time="2h", name="reviews")
    >>> running.front
    >>> search = running.wait()

    Settings are those of `autopeft.search`, and so are its errors: raises AutopeftError at once for slips, and from
    `wait` for what is found out later. What it says goes to a file below `logs/` in the run folder.
    """
    arguments = dict(locals())
    resources = Resources.of(resources_of(arguments))
    plan = startable(plan_of(arguments), resources)
    with Repository(resources.storage) as repository:
        begun = name_of_new(plan, name, repository.names())
        repository.require_free(begun)
    log = Path(resources.folder).absolute() / "logs" / f"{begun}.log"
    told = {"plan": plan.to_dict(), "name": begun, "resources": vars(resources)}
    return Running(begun, resources.storage, log, _process(told, log))


def _process(told: Mapping[str, Any], log: Path) -> "subprocess.Popen[bytes]":
    """In a session of its own, so that neither Ctrl-C nor the end of a terminal reaches it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "autopeft.python.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            start_new_session=True,
        )
    _begun.append(process)
    assert process.stdin is not None
    # Not as arguments or in the environment, where others might read the database's password.
    with suppress(BrokenPipeError), process.stdin as stdin:  # Why it ended at once, `wait` tells.
        stdin.write(json.dumps(told).encode())
    process.stdin = None
    return process
