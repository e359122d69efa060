"""Passes on between an orchestrator and the ledger, and keeps the clock of every trial that is being trained.

Lives in the driver. A fault of the ledger ends the run: it is kept here, because Ray Tune would swallow it.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.searching.ledger import DEVICE_PART, STOPPED_EARLY, Ledger
from autopeft.searching.shares import Shares
from autopeft.sizes import show_seconds
from autopeft.trial import Outcome, Status, Trial


def grace(timeout: float) -> float:
    """Seconds beyond a time-out in which a worker is to end itself, before the driver ends it."""
    return 1.0 + min(timeout / 10, 10.0)


@dataclass
class _AtHand:
    """A trial between the ledger's giving it and its end; moments are of `time.perf_counter`."""

    portion: float
    """Of what one worker gets where all get the same."""
    part: float
    """Of a device."""
    began: float
    heard: float
    """When it last showed that it goes on, or could first have done so."""
    has_worker: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Those that came with its last rung."""


class Passing:
    """Between Ray Tune and the ledger."""

    def __init__(self, ledger: Ledger, timeout: float | None, shares: Shares) -> None:
        self._ledger = ledger
        self._timeout = timeout
        self._shares = shares
        self._at_hand: dict[int, _AtHand] = {}
        self._no_more = False
        self.fault: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune pickles a run so that it could be restored, and ours goes on from the database instead."""
        return {}

    @property
    def full(self) -> bool:
        """Whether the trials at hand ask for all there is. If more were at hand, small ones would go on overtaking one
        that waits for a whole GPU, and the sampler would propose trials long before they can train.
        """
        return sum(each.portion for each in self._at_hand.values()) >= self._shares.whole.workers

    @property
    def busy(self) -> bool:
        """Whether there are trials at hand, any of which may have to be given again."""
        return bool(self._at_hand)

    def next(self) -> Trial | None:
        """The next trial; None where there is none, at least until one that is at hand has ended."""
        trial = None
        if not self._no_more:
            with self._faults():
                trial = self._ledger.next()
                self._no_more = trial is None
        if trial is not None:
            now = time.perf_counter()
            self._at_hand[trial.number] = _AtHand(
                self._shares.portion(trial), self._shares.part_of_device(trial), began=now, heard=now
            )
        return trial

    def started(self, number: int) -> None:
        """Its worker is ready: what it waited for one does not count."""
        trial = self._at_hand[number]
        trial.began = trial.heard = time.perf_counter()

    def overdue(self, number: int) -> bool:
        """Whether its worker, which it has, was to have ended itself some time ago and did not."""
        trial = self._at_hand.get(number)
        if trial is None or self._timeout is None:
            return False
        if not trial.has_worker:
            trial.has_worker, trial.heard = True, time.perf_counter()
        return _silent(trial) >= self._timeout + grace(self._timeout)

    def heard(self, number: int, result: Mapping[str, Any]) -> bool:
        """A rung; says whether the trial goes on. Or the outcome of a worker that dies when it is told to go on."""
        said = result["said"]
        if isinstance(said.item, Outcome):
            self._ended(number, said.item)
            return True
        trial, goes_on = self._at_hand[number], False
        trial.heard, trial.facts = time.perf_counter(), said.facts
        with self._faults():
            goes_on = self._ledger.rung(number, said.item)
            if not goes_on:
                self._ended(number, self._outcome(number, Status.STOPPED, STOPPED_EARLY))
        return goes_on

    def completed(self, number: int, result: Mapping[str, Any]) -> None:
        """The last that its worker said."""
        if "fault" in result:
            self.fault = AutopeftError(f"a worker could not start: {result['fault']}")
        elif isinstance(outcome := getattr(result.get("said"), "item", None), Outcome):
            self._ended(number, outcome)

    def broke(self, number: int, why: str, lost: bool) -> None:
        """Its worker is lost, or raised what it should have made an outcome of."""
        trial = self._at_hand.get(number)
        if trial is None:
            return
        if self._timeout is not None and _silent(trial) >= self._timeout:
            reason = f"no rung was reached within the time-out of {show_seconds(self._timeout)}; its worker was ended"
            outcome = self._outcome(number, Status.FAILED, reason)
        elif lost:
            outcome = self._outcome(number, Status.LOST, f"the worker was lost: {why}")
        else:
            outcome = self._outcome(number, Status.FAILED, f"the worker failed: {why}")
        self._ended(number, outcome)

    def _ended(self, number: int, outcome: Outcome) -> None:
        part = self._at_hand.pop(number).part
        self._no_more = False
        with self._faults():
            self._ledger.ended(number, replace(outcome, facts={**outcome.facts, DEVICE_PART: part}))

    def _outcome(self, number: int, status: Status, reason: str) -> Outcome:
        """An outcome that the worker did not make."""
        trial = self._at_hand[number]
        return Outcome(status, reason, time.perf_counter() - trial.began, facts=trial.facts)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:
            self.fault = self.fault or fault


def _silent(trial: _AtHand) -> float:
    """Seconds since it was heard of."""
    return time.perf_counter() - trial.heard
