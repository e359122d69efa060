"""Events of a search as plain values, for whoever follows it over the network. Pure."""

from collections.abc import Mapping
from typing import Any

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
from autopeft.reports.format.json import plain
from autopeft.reports.lines import lines
from autopeft.reports.standing import Standing
from autopeft.reports.wording import describe
from autopeft.trial import Trial

_KINDS: Mapping[type, str] = {
    Doing: "doing",
    Begun: "begun",
    BaselinesKnown: "baselines",
    TrialBegan: "trial-began",
    TrialReported: "trial-reported",
    TrialEnded: "trial-ended",
    GivenAgain: "given-again",
    TurnedAway: "turned-away",
    Confirming: "confirming",
    TrialConfirmed: "trial-confirmed",
    Ended: "over",
}
ENDED = _KINDS[TrialEnded]
_MOST_LINE = 1000
"""Characters."""


def told(event: Event, after: Standing, now: float) -> tuple[str, Mapping[str, Any]] | None:
    """The kind of an event and what is told of it, given how the search stands after it; None for what nobody would
    miss.
    """
    said = [line[:_MOST_LINE] for line in lines(event, after, now)]
    of_event: dict[str, Any] = {}
    match event:
        case TurnedAway() if not said:
            return None
        case Doing(what):
            of_event = {"doing": what}
        case BaselinesKnown(baselines):
            of_event = {"baselines": {name: each.score for name, each in baselines.items()}}
        case TrialBegan(trial) | TrialReported(trial) | TrialEnded(trial) | GivenAgain(trial, _):
            of_event = {"trial": _trial(trial)}
        case TrialConfirmed(confirmation):
            of_event = {"trial": {"number": confirmation.number, "status": confirmation.status.value}}
        case Ended(_, interrupted):
            of_event = {"interrupted": interrupted}
        case _:
            pass
    return _KINDS[type(event)], plain({**of_event, "lines": said, "standing": _standing(after, now)})


def _trial(trial: Trial) -> Mapping[str, Any]:
    rung = trial.curve[-1] if trial.curve else None
    return {
        "number": trial.number,
        "method": trial.candidate.name,
        "described": describe(trial.candidate)[:_MOST_LINE],
        "status": trial.status.value,
        "score": trial.score,
        "error": trial.error,
        "step": rung.step if rung else 0,
        "steps": rung.steps if rung else None,
        "memory": trial.predicted.memory,
        "trainable": trial.predicted.trainable,
        "seconds": trial.seconds,
    }


def _standing(standing: Standing, now: float) -> Mapping[str, Any]:
    """What a display needs that has heard of nothing before."""
    return {
        "doing": standing.doing,
        "trials": standing.plan.trials if standing.plan else None,
        "ended": len(standing.ended),
        "failed": len(standing.failed),
        "running": sorted(standing.running),
        "front": [trial.number for trial in standing.front],
        "metric": standing.metric.name,
        "elapsed": standing.elapsed(now),
        "left": standing.left(now),
    }
