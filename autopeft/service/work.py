"""What is done apart from the service's own process (`apart.py`): each a function of plain values that returns such."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_EXAMPLES, _LOOKED_AT = 5, 2000
"""Rows that are shown, and whose words are counted."""
_LONGEST = 300
"""Characters of a cell that are shown."""


def understand(plan: dict[str, Any]) -> dict[str, Any]:
    """What a search would make of a plan's data, with the first rows as they lie in the file."""
    from autopeft.data.reading import read_splits
    from autopeft.plan import Plan
    from autopeft.searching.own_code import execute, own_slips_told
    from autopeft.tasks.understanding import understand as understood

    asked = Plan.from_dict(plan)
    execute({"task": asked.task})
    first = next(iter(read_splits(asked.data, lambda _: None, ()).values())).head(_LOOKED_AT)
    rows, columns = first.head(_EXAMPLES), [str(each) for each in first.columns]
    shown = {
        "columns": columns,
        "examples": [[brief(cell, _LONGEST) for cell in row] for row in rows.itertuples(index=False)],
    }
    with own_slips_told(asked):
        found = understood(asked.data, asked.given, asked.task, asked.seed, asked.separator, asked.loss_on)
    return shown | {
        "task": found.task.name,
        "roles": {role: list(names) for role, names in found.columns.items()},
        "rows": {name: len(split) for name, split in found.splits.items()},
        "labels": [str(each) for each in getattr(found.task, "classes", ())][:1000],
        "metrics": [metric.name for metric in found.task.every_metric()],
        "words": max((_words(row, found.columns) for row in first.to_dict("records")), default=0),
        "described": list(found.described()),
    }


def _words(row: Mapping[Any, Any], columns: Mapping[str, Sequence[str]]) -> int:
    """Of all texts that a model reads of a row."""
    read = [name for role, names in columns.items() if role != "label" for name in names]
    return sum(len(cell.split()) for name in read if isinstance(cell := row.get(name), str))


def estimate(asked: dict[str, Any]) -> Any:
    """What every method costs; the same JSON as `autopeft estimate --json`."""
    from autopeft.costs.estimate import about
    from autopeft.costs.estimate import estimate as estimate_all
    from autopeft.reports.estimates import estimates_json
    from autopeft.searching.own_code import execute

    execute({"task": asked["task"]})
    estimates = estimate_all(**asked)
    return json.loads(estimates_json(about(**asked), [], estimates))


def methods() -> list[dict[str, Any]]:
    from dataclasses import asdict

    from autopeft.reports.methods import overviews

    return [asdict(each) for each in overviews()]


def tasks() -> list[dict[str, Any]]:
    from autopeft.tasks.named import tasks as known

    return [
        {
            "name": name,
            "summary": (task.__doc__ or "").strip().splitlines()[0],
            "roles": {role: list(each.usual) for role, each in task.roles.items()},
            "metrics": [metric.name for metric in task.every_metric()],
        }
        for name, task in known().items()
    ]


def export(search: str, storage: str, folder: str, number: int, form: str, to: str, trusted: dict[str, Any]) -> str:
    """Writes a trial's weights as one zip file; returns its place."""
    from autopeft.searching.search import open_search

    winner = Path(to) / f"{search}-{number}"
    opened = open_search(search, storage, folder)
    opened.export(number, winner, merge=form == "merged", onnx=form == "onnx", **trusted)
    return shutil.make_archive(str(winner), "zip", to, winner.name)


def answer(search: str, storage: str, folder: str, number: int, own: list[str], **asked: Any) -> dict[str, str]:
    """What a trial's model answers to a text, and what its baseline does; `own` is code that it is read with."""
    from autopeft.artifacts.registering import register
    from autopeft.artifacts.trying import answers
    from autopeft.searching.search import open_search

    opened = open_search(search, storage, folder)
    if why := opened.why_deleted(number):
        raise AutopeftError(why)
    for each in own:
        register(each)
    return answers(opened.trial(number).artifact, opened.plan.to_dict(), **asked)


def measures(model: str, trust_remote_code: bool) -> dict[str, int | None]:
    """How many parameters a model has, and how many tokens it reads, where that is limited."""
    from autopeft.backbone.load import load_skeleton

    skeleton = load_skeleton(model, trust_remote_code=trust_remote_code)
    return {"parameters": sum(each.numel() for each in skeleton.model.parameters()), "positions": skeleton.positions}
