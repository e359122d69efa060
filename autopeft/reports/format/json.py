"""The complete record as plain JSON, for programs; what a front is worth is in it, too.

Values that JSON cannot hold become null (not a number, infinite) or text (moments, as ISO 8601).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from autopeft.confirmed import Confirmed, Spread
from autopeft.objectives import plain_score
from autopeft.reports.findings import Findings, find
from autopeft.reports.prompting import prompting
from autopeft.trial import Confirmation, SearchRecord, Trial

VERSION = 2
"""Grows when a field changes its meaning or goes away."""


def render(record: SearchRecord) -> str:
    """JSON, indented, ending in a newline."""
    found = find(record)
    whole = {
        "format": "autopeft search",
        "version": VERSION,
        "name": record.name,
        "created": record.created,
        "ended": record.ended,
        "plan": record.plan.to_dict(),
        "facts": record.facts,
        "task": record.task,
        "metric": plain_score(record.metric),
        "baselines": {
            name: {
                field: value
                for field, value in vars(each).items()
                if field != "answers" and (value or field != "written")
            }
            for name, each in record.baselines.items()
        },
        "prompting": _prompting(record, found),
        "turned_away": record.turned_away,
        "front": [trial.number for trial in found.front],
        "hypervolume": found.hypervolume,
        "better_than_baselines": [trial.number for trial in found.better],
        "knee": found.knee.number if found.knee else None,
        "trials": [plain_trial(trial) for trial in record.trials],
        "confirmations": [asdict(each) | _scores(each) for each in record.confirmations],
        "confirmed": _confirmed(found.confirmed) if found.confirmed else None,
    }
    # ASCII alone: the same values for programs, and nothing that a terminal would obey or an encoding does not have.
    return json.dumps(plain(whole), indent=2, allow_nan=False).replace("\x7f", "\\u007f") + "\n"


def _prompting(record: SearchRecord, found: Findings) -> Mapping[str, Any] | None:
    """The best trial beside the best of prompting."""
    if (seen := prompting(record, found)) is None:
        return None
    return {"trial": seen.trial.number, "baseline": seen.name, **asdict(seen.difference)}


def plain_trial(trial: Trial) -> Mapping[str, Any]:
    """Without what single rows are worth, which only the database keeps."""
    of_last = {"score": trial.score, "error": trial.error, "others": trial.others}
    of_last |= {"other_errors": trial.other_errors, "trained": trial.share}
    whole = asdict(trial) | {"candidate": trial.candidate.to_dict(), **of_last}
    if whole["outcome"] is not None:
        del whole["outcome"]["answers"]
    return whole


def _scores(confirmation: Confirmation) -> dict[str, Any]:
    answers = {"validation": confirmation.validation, "test": confirmation.test}
    return {
        split: {"score": each.score, "error": each.error if each.are_whole else None, "rows": each.rows}
        if each
        else None
        for split, each in answers.items()
    }


def _confirmed(sure: Confirmed) -> Mapping[str, Any]:
    members = [
        asdict(each)
        | {
            "trial": each.trial.number,
            "validation": _spread(each.validation),
            "test": _spread(each.test) if each.test else None,
        }
        for each in sure.members
    ]
    neighbours = [asdict(each) | {"apart": each.apart} for each in sure.neighbours]
    return asdict(sure) | {"members": members, "neighbours": neighbours}


def _spread(spread: Spread) -> Mapping[str, Any]:
    return {"mean": spread.mean, "deviation": spread.deviation, "values": spread.values}


def plain(value: Any) -> Any:
    """What JSON can hold of a value."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)
