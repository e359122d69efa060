"""A ledger and workers that train nothing, to see what an orchestrator passes on."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from autopeft.space.candidate import Candidate, Part
from autopeft.trial import Costs, Outcome, Rung, Status, Trial


def trial(number: int, does: str = "finish") -> Trial:
    """A trial whose method's name says what the toy worker does with it."""
    return Trial(number, Candidate(does, (Part(does),)), Costs(1, 2, 3, 4), {"method": does}, seed=number)


@dataclass
class ToyLedger:
    """Gives trials, and remembers what it hears. `stops` are numbers that it stops at their first rung; trials that
    end like those of `again` are given once more, as trials that finish.
    """

    trials: list[Trial]
    stops: frozenset[int] = frozenset()
    again: frozenset[Status] = frozenset()
    heard: list[tuple[int, int]] = field(default_factory=list)
    outcomes: dict[int, list[Outcome]] = field(default_factory=dict)

    given: list[int] = field(default_factory=list)

    def next(self) -> Trial | None:
        if not self.trials:
            return None
        self.given.append(self.trials[0].number)
        return self.trials.pop(0)

    def rung(self, number: int, rung: Rung) -> bool:
        self.heard.append((number, rung.step))
        return number not in self.stops

    def ended(self, number: int, outcome: Outcome) -> None:
        self.outcomes.setdefault(number, []).append(outcome)
        if outcome.status in self.again:
            self.trials.append(trial(number))

    def statuses(self) -> dict[int, list[Status]]:
        return {number: [each.status for each in given] for number, given in self.outcomes.items()}


class FaultyLedger(ToyLedger):
    """A ledger whose database is full when a trial ends."""

    def ended(self, number: int, outcome: Outcome) -> None:
        raise OSError(f"no space left for trial {number}: {outcome.status}")


class ToyWorker:
    """Three rungs and an outcome; or a death, as the trial's method says."""

    def __init__(self) -> None:
        self._trained = 0
        self.spent = False
        self.facts = {"process": os.getpid()}

    def train(self, trial: Trial) -> Iterator[Rung | Outcome]:
        does = trial.candidate.name
        self._trained += 1
        facts = {"process": os.getpid(), "before": self._trained - 1}
        try:
            for step in range(1, 4):
                yield Rung(step, 3, step / 4, 0.02, 1.0, float(step))
                if does == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                if does == "crash":
                    raise RuntimeError("an error that the worker did not catch")
                if does == "linger":
                    time.sleep(60)
                if does == "stop":
                    os.kill(os.getpid(), signal.SIGSTOP)
                if does == "hold on":
                    # In C, and no other thread of Python runs meanwhile.
                    ctypes.PyDLL(None).sleep(60)
            self.spent = does == "break the device"
            bad = does in ("fail", "break the device")
            yield Outcome(Status.FAILED if bad else Status.FINISHED, does, 0.1, facts=facts)
        finally:
            if does == "die on leaving":
                os.kill(os.getpid(), signal.SIGKILL)
            if does == "leave a mark":
                trial.candidate.parts[0].settings["file"].write_text("closed")  # type: ignore[union-attr]


def broken_worker() -> ToyWorker:
    """A worker that cannot start."""
    raise FileNotFoundError("no model at /nowhere")
