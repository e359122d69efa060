"""How a search stands, folded from its events one by one: a pure value from which any display can be drawn."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autopeft.events import (
    BaselinesKnown,
    Begun,
    Confirming,
    Doing,
    Ended,
    Event,
    GivenAgain,
    TrialBegan,
    TrialConfirmed,
    TrialEnded,
    TrialReported,
    TurnedAway,
)
from autopeft.fronts import front
from autopeft.objectives import ACCURACY, Objective
from autopeft.plan import Plan
from autopeft.trial import Baseline, SearchRecord, Status, Trial


@dataclass(frozen=True)
class Standing:
    """All that a display needs to know; moments are seconds of one monotonic clock."""

    began: float
    """When the display began."""
    doing: str = ""
    """The preparation that is going on; empty once trials are trained."""
    record: SearchRecord | None = None
    """As it was when trials began, those of earlier sittings included."""
    trials_from: float | None = None
    """When the first trial of this sitting began."""
    earlier: int = 0
    """Trials that ended in earlier sittings."""
    running: Mapping[int, Trial] = field(default_factory=dict)
    ended: tuple[Trial, ...] = ()
    """In the order in which they ended, earlier sittings included."""
    front: tuple[Trial, ...] = ()
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    turned_away: Mapping[str, int] = field(default_factory=dict)
    to_confirm: int = 0
    """Trainings of the front again, in this sitting."""
    confirmed: int = 0
    """How many of them have ended."""
    over: bool = False
    interrupted: bool = False

    @property
    def plan(self) -> Plan | None:
        return self.record.plan if self.record else None

    @property
    def metric(self) -> Objective:
        """What scores are."""
        return self.record.metric if self.record else ACCURACY

    @property
    def failed(self) -> tuple[Trial, ...]:
        """Those that failed or were lost."""
        return tuple(trial for trial in self.ended if trial.status.came_to_nothing)

    def failures(self) -> tuple[str, ...]:
        """How many came to nothing, by how: `2 failed`, `1 lost`."""
        counts = Counter(trial.status for trial in self.failed)
        return tuple(f"{counts[each]} {each.value}" for each in Status if counts[each] or each is Status.FAILED)

    def elapsed(self, now: float) -> float:
        """Seconds of this sitting so far."""
        return max(now - self.began, 0.0)

    def left(self, now: float) -> float | None:
        """Seconds until the search reaches a limit, by the pace of this sitting; None while that cannot be told."""
        if self.plan is None or self.record is None or self.over or self.to_confirm:
            return None
        limits = []
        if self.plan.time is not None:
            earlier = float(self.record.facts.get("seconds", 0))
            limits.append(max(self.plan.time - earlier - self.elapsed(now), 0.0))
        here = len(self.ended) - self.earlier
        if self.plan.trials is not None and here and self.trials_from is not None:
            limits.append(max(self.plan.trials - len(self.ended), 0) * max(now - self.trials_from, 0.0) / here)
        return min(limits, default=None)

    def _with_front(self) -> "Standing":
        """With what is best of what has ended and of what trains still."""
        trials = (*self.ended, *self.running.values())
        return replace(self, front=front(trials, self.record.objectives) if self.record else ())

    def after(self, event: Event, now: float) -> "Standing":
        """How the search stands after this event."""
        match event:
            case Doing(what):
                return replace(self, doing=what)
            case Begun(record):
                ended = tuple(trial for trial in record.trials if trial.outcome is not None)
                return replace(
                    self,
                    record=record,
                    ended=ended,
                    earlier=len(ended),
                    front=front(record.trials, record.objectives),
                    baselines=record.baselines,
                    turned_away=dict(record.turned_away),
                )
            case BaselinesKnown(baselines):
                return replace(self, baselines=baselines)
            case TrialBegan(trial) | TrialReported(trial):
                began = now if self.trials_from is None else self.trials_from
                running = {**self.running, trial.number: trial}
                return replace(self, doing="", trials_from=began, running=running)._with_front()
            case TrialEnded(trial):
                running = {number: each for number, each in self.running.items() if number != trial.number}
                ended = (*(each for each in self.ended if each.number != trial.number), trial)
                return replace(self, doing="", running=running, ended=ended)._with_front()
            case GivenAgain(trial, _):
                running = {number: each for number, each in self.running.items() if number != trial.number}
                return replace(self, running=running)
            case TurnedAway(limit):
                return replace(self, turned_away=Counter(self.turned_away) + Counter([limit]))
            case Confirming(trainings):
                return replace(self, doing=_confirming(0, trainings), to_confirm=trainings, running={})
            case TrialConfirmed():
                done = self.confirmed + 1
                return replace(self, doing=_confirming(done, self.to_confirm), confirmed=done)
            case Ended(record, interrupted):
                # Those that time left without a rung, or an interrupt, train no more.
                return replace(self, record=record, doing="", over=True, interrupted=interrupted, running={})


def _confirming(done: int, trainings: int) -> str:
    return f"training the front again, {done} of {trainings} done"
