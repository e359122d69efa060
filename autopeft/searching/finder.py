"""Finds what to train next: proposes candidates and predicts their costs until one keeps all limits.

Where trials train elsewhere this goes on ahead of need, in a thread of its own, so that no worker waits for a proposal
or a prediction. What is found ahead was proposed without the outcomes that arrived since; they are learned next.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from threading import Event
from typing import Any

from autopeft.errors import CannotAttach
from autopeft.searching.proposer import Proposal, Proposer
from autopeft.space.candidate import Candidate
from autopeft.trial import Costs, Trial

Predict = Callable[[Candidate], Costs]


@dataclass(frozen=True)
class Considered:
    """A proposal and what it would cost."""

    proposal: Proposal
    costs: Costs | None
    """None where the candidate cannot be attached."""
    excess: Mapping[str, float]
    """Limits that it breaks, each by this fraction of the limit; empty where it may be trained."""


class Finder:
    """Proposes and predicts; with `ahead`, in another thread than its callers'."""

    def __init__(self, proposer: Proposer, predict: Predict, limits: Mapping[str, float], ahead: bool) -> None:
        self._proposer = proposer
        self._predict = predict
        self._limits = limits
        self._lessons: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = ThreadPoolExecutor(1, "autopeft-finder") if ahead else None
        self._seen: SimpleQueue[Considered | BaseException] = SimpleQueue()
        self._seeking = False
        self._closed = Event()

    def begin(
        self,
        known_good: Callable[[Predict], Sequence[Mapping[str, Any]]],
        least: int,
        tried: Container[Mapping[str, Any]],
    ) -> None:
        """Tells the proposer what to begin with (see `Proposer.begin`), which may take many predictions to know."""
        self._learn(lambda: self._proposer.begin(known_good(self._predict_unless_closed), least, tried))
        self.go_ahead()

    def find(self) -> Iterator[Considered]:
        """Proposals, each turned away if it breaks a limit, up to the first that breaks none."""
        if self._thread is None:
            yield from self._considered()
            return
        while True:
            self.go_ahead()
            seen = self._seen.get()
            self._seeking = isinstance(seen, Considered) and bool(seen.excess)
            if isinstance(seen, BaseException):
                raise seen
            seen = self._considered_again(seen)
            yield seen
            if not seen.excess:
                return

    def go_ahead(self) -> None:
        """Begins to find what `find` will give, where there is a thread for it."""
        if self._thread is not None and not self._seeking:
            self._seeking = True
            self._thread.submit(self._seek)

    def reach(self, trial: Trial) -> None:
        """What training a proposal has shown so far."""
        self._learn(partial(self._proposer.reach, trial))

    def tell(self, trial: Trial) -> None:
        """What became of a proposal."""
        self._learn(partial(self._proposer.tell, trial))

    def tighten(self, limits: Mapping[str, float]) -> None:
        """Limits that hold from now on, also for what was found ahead; those of other names stay."""
        self._limits = {**self._limits, **limits}
        self._learn(partial(self._proposer.keep, self._limits))

    def close(self) -> None:
        """Stops looking for more."""
        self._closed.set()
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _learn(self, lesson: Callable[[], None]) -> None:
        """The proposer is used in one thread only, and that learns before it proposes."""
        if self._thread is None:
            lesson()
        else:
            self._lessons.put(lesson)

    def _considered_again(self, seen: Considered) -> Considered:
        """Under the limits of now; what was found ahead may break those that were tightened since."""
        if seen.costs is None or seen.excess or not (excess := seen.costs.excesses(self._limits)):
            return seen
        self._learn(partial(self._proposer.turn_away, seen.proposal, excess))
        return replace(seen, excess=excess)

    def _predict_unless_closed(self, candidate: Candidate) -> Costs:
        if self._closed.is_set():
            raise InterruptedError
        return self._predict(candidate)

    def _seek(self) -> None:
        try:
            for seen in self._considered():
                self._seen.put(seen)
        except BaseException as error:  # Also an exit, for which `find` would wait for ever.
            self._seen.put(error)

    def _considered(self) -> Iterator[Considered]:
        while not self._closed.is_set():
            while not self._lessons.empty():
                self._lessons.get()()
            proposal = self._proposer.propose()
            try:
                costs = self._predict(proposal.candidate)
                excess: Mapping[str, float] = costs.excesses(self._limits)
            except CannotAttach:
                costs, excess = None, {"cannot attach": 1.0}
            if excess:
                self._proposer.turn_away(proposal, excess)
            yield Considered(proposal, costs, excess)
            if not excess:
                return
