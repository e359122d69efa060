"""One row per trial and one column per objective and hyperparameter, for spreadsheets and data frames.

Hyperparameters are named `method.setting` (`method#2.setting` for a method that a candidate holds twice), and metrics
beside the score `other.metric`; a cell is empty where a trial has no such value. Texts that a spreadsheet would take
for formulas begin with an apostrophe.
"""

import csv
from collections import Counter
from io import StringIO
from typing import Any

from autopeft.confirmed import Member
from autopeft.objectives import COSTS
from autopeft.reports.findings import find
from autopeft.reports.harmless import harmless, harmless_cell
from autopeft.reports.wording import first_line
from autopeft.space.candidate import Candidate
from autopeft.trial import SearchRecord, Trial

_OTHER = "other."
_MEASURED = ("set_up_seconds", "seconds_per_step", "examples_per_second", "latency", "latency_bare", "bytes_on_disk")
"""Facts of an outcome that are numbers."""
_CONFIRMED = (
    *("confirmed_seeds", "confirmed_validation", "confirmed_validation_deviation"),
    *("confirmed_test", "confirmed_test_deviation", "front_probability"),
)


def render(record: SearchRecord) -> str:
    """Comma-separated text with a line of column names; lines end in a newline."""
    record = harmless(record)
    found = find(record)
    on_front = {trial.number for trial in found.front}
    confirmed = {each.trial.number: _confirmed(each) for each in (found.confirmed.members if found.confirmed else ())}
    rows = [
        _row(trial)
        | {
            "metric": record.metric.name,
            "front": int(trial.number in on_front),
            "knee": int(found.knee is not None and trial.number == found.knee.number),
        }
        | confirmed.get(trial.number, {})
        | _settings(trial.candidate)
        for trial in record.trials
    ]
    first = [
        "trial",
        "status",
        "front",
        "knee",
        "method",
        "metric",
        "score",
        "error",
        "trained",
        *COSTS,
        *(f"measured_{name}" for name in COSTS),
    ]
    first += sorted({f"{_OTHER}{name}" for trial in record.trials for name in trial.others})
    first += [*_MEASURED, *_CONFIRMED, "seconds", "seed", "started", "finished", "reason"]
    settings = sorted({name for row in rows for name in row} - set(first))
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for line in ([*first, *settings], *([row.get(name, "") for name in [*first, *settings]] for row in rows)):
        writer.writerow([harmless_cell(cell) for cell in line])
    return file.getvalue()


def _row(trial: Trial) -> dict[str, Any]:
    outcome = trial.outcome
    return {
        "trial": trial.number,
        "status": trial.status.value,
        "method": trial.candidate.name,
        "score": _cell(trial.score),
        "error": _cell(trial.error),
        "trained": round(trial.share, 4) if trial.is_model else "",
        **{f"{_OTHER}{name}": value for name, value in trial.others.items()},
        **{name: getattr(trial.predicted, name) for name in COSTS},
        **{f"measured_{name}": trial.measured(name) for name in COSTS},
        **({name: outcome.facts[name] for name in _MEASURED if name in outcome.facts} if outcome else {}),
        "seconds": round(outcome.seconds, 3) if outcome else "",
        "seed": trial.seed,
        "started": trial.started.isoformat() if trial.started else "",
        "finished": trial.finished.isoformat() if trial.finished else "",
        "reason": first_line(outcome.reason) if outcome and outcome.reason else "",
    }


def _confirmed(member: Member) -> dict[str, Any]:
    spreads = (member.validation, member.test)
    cells = [_cell(value) for each in spreads for value in ((each.mean, each.deviation) if each else (None, None))]
    return dict(zip(_CONFIRMED, [len(member.validation.values), *cells, member.on_front], strict=True))


def _settings(candidate: Candidate) -> dict[str, Any]:
    seen: Counter[str] = Counter()
    settings: dict[str, Any] = {}
    for part in candidate.parts:
        seen[part.method] += 1
        name = part.method if seen[part.method] == 1 else f"{part.method}#{seen[part.method]}"
        for setting, value in {
            **part.settings,
            "learning_rate": part.learning_rate,
            "weight_decay": part.weight_decay,
        }.items():
            settings[f"{name}.{setting}"] = _cell(value)
    return settings | {f"training.{name}": _cell(value) for name, value in vars(candidate.training).items()}


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return ",".join(str(_cell(item)) for item in value)
    return "" if value is None else value
