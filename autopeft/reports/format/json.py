"""The complete record as plain JSON, for programs; what a front is worth is in it, too.

Values that JSON cannot hold become null (not a number, infinite) or text (moments, as ISO 8601).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from autopeft.reports.findings import find
from autopeft.trial import SearchRecord, Trial

VERSION = 1
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
        "baselines": asdict(record.baselines) if record.baselines else None,
        "turned_away": record.turned_away,
        "front": [trial.number for trial in found.front],
        "hypervolume": found.hypervolume,
        "knee": found.knee.number if found.knee else None,
        "trials": [_trial(trial) for trial in record.trials],
    }
    return json.dumps(_plain(whole), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _trial(trial: Trial) -> Mapping[str, Any]:
    return asdict(trial) | {"candidate": trial.candidate.to_dict(), "accuracy": trial.accuracy}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)
