"""Events of a search as plain values, for whoever follows it over the network, and back. Pure.

What is heard shows on a display as what was told: trials travel with their candidates, costs and curves, but without
what single rows are worth; the search itself is fetched by whoever needs it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
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
from autopeft.reports.format.json import plain, plain_trial
from autopeft.reports.lines import lines
from autopeft.reports.standing import Standing
from autopeft.space.candidate import Candidate
from autopeft.trial import Answers, Baseline, Confirmation, Costs, Outcome, Rung, SearchRecord, Status, Trial

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
        case TrialBegan(trial) | TrialReported(trial) | TrialEnded(trial):
            of_event = {"trial": _trial(trial)}
        case GivenAgain(trial, why):
            of_event = {"trial": _trial(trial), "why": why[:_MOST_LINE]}
        case Confirming(trainings):
            of_event = {"trainings": trainings}
        case TrialConfirmed(each):
            scores = {"validation": each.validation, "test": each.test}
            of_event = {
                "trial": {"number": each.number, "status": each.status.value},
                "repeat": each.repeat,
                "reason": each.reason[:_MOST_LINE],
                "scores": {split: answers.score for split, answers in scores.items() if answers},
            }
        case Ended(_, interrupted):
            of_event = {"interrupted": interrupted}
        case _:
            pass
    return _KINDS[type(event)], plain({**of_event, "lines": said, "standing": _standing(after, now)})


def heard(
    kind: str, told: Mapping[str, Any], away: Mapping[str, int], record: Callable[[], SearchRecord]
) -> Iterator[Event]:
    """The events that were told so, given what had been turned away before; `record` fetches the search, which may know
    more already. None of a kind that is not known.
    """
    known = dict((told.get("standing") or {}).get("turned_away") or {})
    if kind != _KINDS[Begun]:
        yield from map(TurnedAway, (Counter(known) - Counter(away)).elements())
    match kind:
        case "doing":
            yield Doing(told["doing"])
        case "begun":
            at, whole = datetime.fromisoformat(told["at"]), record()
            earlier = [each for each in whole.trials if each.finished is not None and each.finished <= at]
            yield Begun(replace(whole, trials=tuple(earlier), turned_away=known, ended=None))
        case "baselines":
            yield BaselinesKnown(
                {name: Baseline(_number(score), math.nan) for name, score in told["baselines"].items()}
            )
        case "trial-began":
            yield TrialBegan(_heard_trial(told["trial"]))
        case "trial-reported":
            yield TrialReported(_heard_trial(told["trial"]))
        case "trial-ended":
            yield TrialEnded(_heard_trial(told["trial"]))
        case "given-again":
            yield GivenAgain(_heard_trial(told["trial"]), told["why"])
        case "confirming":
            yield Confirming(told["trainings"])
        case "trial-confirmed":
            answers = {split: Answers(_number(score), 0, b"") for split, score in told["scores"].items()}
            status = Status(told["trial"]["status"])
            known_of = Confirmation(told["trial"]["number"], told["repeat"], 0, status, told["reason"])
            yield TrialConfirmed(replace(known_of, validation=answers.get("validation"), test=answers.get("test")))
        case "over":
            yield Ended(record(), told["interrupted"])


def _trial(trial: Trial) -> Mapping[str, Any]:
    """What a display shows of it."""
    whole = plain_trial(trial)
    costs = {name: value for name, value in whole["predicted"].items() if name not in ("work", "memory_by_part")}
    outcome = whole["outcome"] and {
        name: whole["outcome"][name] for name in ("status", "reason", "seconds", "artifact")
    }
    shown = {name: whole[name] for name in ("number", "candidate", "seed", "status", "curve", "score")}
    return {**shown, "predicted": costs, "outcome": outcome}


def _heard_trial(plain: Mapping[str, Any]) -> Trial:
    outcome = plain["outcome"] and Outcome(**{**plain["outcome"], "status": Status(plain["outcome"]["status"])})
    return Trial(
        plain["number"],
        Candidate.from_dict(plain["candidate"]),
        Costs(**plain["predicted"]),
        {},
        plain["seed"],
        Status(plain["status"]),
        tuple(
            Rung(**{**each, "score": _number(each["score"]), "error": _number(each["error"])})
            for each in plain["curve"]
        ),
        outcome,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


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
        "turned_away": standing.turned_away,
        "elapsed": standing.elapsed(now),
        "left": standing.left(now),
    }
