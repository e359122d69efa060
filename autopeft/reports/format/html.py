"""One self-contained page: plots, the front, every trial, and what was searched. Nothing is loaded from anywhere.

Without JavaScript, or printed, the tables say everything that the plots show.
"""

import gzip
import json
import math
import re
import shlex
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from autopeft.fronts import latencies
from autopeft.objectives import show
from autopeft.reports import confirmations, costs, prompting, written
from autopeft.reports.apart import apart
from autopeft.reports.findings import (
    Findings,
    baseline_rows,
    correction,
    emptiness,
    fact_lines,
    failure_lines,
    find,
    notes,
    plan_lines,
    tally,
)
from autopeft.reports.format.json import plain
from autopeft.reports.harmless import harmless
from autopeft.reports.plots import plots
from autopeft.reports.wording import beside, describe_fully, plural, so_far, why
from autopeft.tasks.own import is_own
from autopeft.trial import SearchRecord, Trial


@dataclass(frozen=True)
class Cell:
    """A value to read, and the one to sort by."""

    shown: str
    key: str | float = ""


def render(record: SearchRecord) -> str:
    """The page."""
    return page(record)


def page(record: SearchRecord, packed: bool = False) -> str:
    """The page; `packed`, its library of plots takes less than half the room, and a browser of 2023 or newer."""
    record = harmless(record)
    found = find(record)
    drawn = plots(record, found)
    named, all_named = apart(found.front), apart(record.trials)
    latency = latencies(record.trials)
    return _template().render(
        record=record,
        found=found,
        plural=plural,
        plots=drawn,
        figures=_script_safe(json.dumps(plain({plot.name: plot.figure for plot in drawn}), allow_nan=False)),
        plotly=Markup(get_plotlyjs()) if drawn and not packed else "",
        packed=_packed_plotly() if drawn and packed else "",
        described=[str(line) for line in record.facts.get("data", ())],
        labels=[str(label) for label in record.facts.get("labels", ())],
        front=[_front_row(found, trial, named[trial.number]) for trial in found.front],
        headings=found.headings,
        took=costs.TOOK,
        baselines=[
            (prompting.labelled(name, each), found.cells_of_baseline(each))
            for name, each in baseline_rows(record.baselines, record.metric)
        ],
        cost_headings=costs.headings(found.front),
        costs=[(trial.number, named[trial.number], costs.cells(trial, latency)) for trial in found.front],
        take=_take(record, found),
        confirmed=_confirmed(record, found),
        prompting=prompting.answer(record, found),
        emptiness=emptiness(record, found),
        tally=tally(record, found),
        failures=failure_lines(found),
        correction=correction(record),
        notes=[_with_code(each) for each in (written.losses(record, found), *notes(found)) if each],
        written=[*written.texts(found)],
        methods=[
            (
                each,
                found.score(each.best),
                show("trainable", each.best.value("trainable")),
                show("memory", each.best.value("memory")),
            )
            if each.best
            else (each, "-", "-", "-")
            for each in found.methods
        ],
        trials=[_trial_row(found, trial, all_named[trial.number]) for trial in record.trials],
        trial_headings=[
            "trial",
            "status",
            "method",
            *found.headings,
            "measured memory",
            costs.TOOK,
        ],
        plan=plan_lines(record),
        facts=fact_lines(record),
    )


@cache
def _template() -> Template:
    return Environment(
        loader=PackageLoader("autopeft.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("page.html.jinja")


@cache
def _packed_plotly() -> str:
    return b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _with_code(text: str) -> Markup:
    """Text with what stands between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _script_safe(text: str) -> Markup:
    """JSON that cannot end the script element which holds it."""
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _front_row(found: Findings, trial: Trial, named: str) -> Mapping[str, Any]:
    return {
        "number": trial.number,
        "knee": found.knee is not None and trial.number == found.knee.number,
        "short": named,
        "full": _in_full(found, trial),
        "values": found.cells(trial),
        "seconds": costs.seconds_with(trial),
    }


def _take(record: SearchRecord, found: Findings) -> str:
    """The command that exports what is recommended; empty where nothing is."""
    chosen = found.knee or next(iter(found.front), None)
    if chosen is None:
        return ""
    said = ["autopeft", "export", record.name, str(chosen.number), "--to", "winner/"]
    own = ["--task", record.plan.task] if is_own(record.plan.task) else []
    return shlex.join([*said, *own, *(["--trust-remote-code"] if record.plan.trust_remote_code else [])])


def _in_full(found: Findings, trial: Trial) -> str:
    """Every setting, and what nothing is judged by."""
    others = ", ".join(" ".join(each) for each in beside(trial))
    return describe_fully(trial.candidate, found.of_task) + (f"; {others}" if others else "")


def _confirmed(record: SearchRecord, found: Findings) -> Mapping[str, Any] | None:
    sure, lines = found.confirmed, confirmations.lines(record, found)
    if sure is None:
        return {"rows": (), "lines": lines} if lines else None
    rows = confirmations.rows(sure, record.metric)
    named = apart(trial for trial, _ in rows)
    return {
        "title": confirmations.title(sure),
        "headings": confirmations.headings(sure),
        "rows": [(trial.number, named[trial.number], cells) for trial, cells in rows],
        "lines": lines,
    }


def _trial_row(found: Findings, trial: Trial, named: str) -> Mapping[str, Any]:
    outcome = trial.outcome
    measured = outcome.measured.memory if outcome and outcome.measured else None
    worst = -found.metric.sign * math.inf
    score = f"{found.metric.show(trial.score)}{so_far(trial)}"
    cells = [Cell(score, worst if trial.score is None else trial.score)]
    cells += [Cell(cost.show(trial.value(cost.name)), trial.value(cost.name)) for cost in found.costs]
    cells.append(Cell(show("memory", measured), -1 if measured is None else measured))
    cells.append(Cell(costs.seconds_with(trial), outcome.seconds) if outcome else Cell("-", -1))
    return {
        "number": trial.number,
        "status": trial.status.value,
        "front": any(member.number == trial.number for member in found.front),
        "short": named,
        "full": _in_full(found, trial),
        "cells": cells,
        "reason": why(trial) if outcome and outcome.reason else "",
    }
