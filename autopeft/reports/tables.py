"""Small tables for pages that help to decide: a front, a choice beside others, what fits. Pure.

A row is its kind (`baseline`, `knee` for what is meant, or empty), what stands first, and the cells after it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from autopeft.fronts import latencies
from autopeft.objectives import COSTS, UNITS
from autopeft.plan import Budget
from autopeft.reports.apart import apart
from autopeft.reports.findings import Findings, baseline_rows
from autopeft.reports.wording import first_line
from autopeft.trial import SearchRecord, Trial

SHOWN = ("memory", "trainable")
"""The costs that every search shows."""
_MOST = 80
"""Characters of a reason."""
Row = tuple[str, str, tuple[str, ...]]


class Table(NamedTuple):
    """Headings, and rows of as many cells."""

    headings: tuple[str, ...]
    rows: Sequence[Row]


def front(record: SearchRecord, found: Findings) -> Table:
    """The best score first, and below it what needs no fine-tuning."""
    headings = ("trial", "method", found.metric.heading, *(COSTS[cost].heading for cost in SHOWN))
    rows: list[Row] = [
        (
            "",
            str(each.number),
            (each.candidate.name, found.score(each), *(COSTS[cost].show(each.value(cost)) for cost in SHOWN)),
        )
        for each in found.front
    ]
    for name, baseline in baseline_rows(record.baselines, found.metric):
        rows.append(("baseline", "", (name, found.score(baseline), *("" for _ in SHOWN))))
    return Table(headings, rows)


def beside(found: Findings, chosen: Trial) -> Sequence[tuple[str, Trial]]:
    """A trial between the members of the front that are next to it in score, each with what it is; the best first."""
    sign, others = found.metric.sign, [each for each in found.front if each.number != chosen.number]
    ahead = [each for each in others if sign * ((each.score or 0.0) - (chosen.score or 0.0)) > 0]
    behind = [each for each in others if each not in ahead]
    return (
        *(("next better", each) for each in ahead[-1:]),
        ("chosen", chosen),
        *(("next cheaper", each) for each in behind[:1]),
    )


def choice(record: SearchRecord, found: Findings, chosen: Trial) -> Table:
    """A trial, its neighbours on the front, and baselines, with errors."""
    latency, others = latencies(record.trials), beside(found, chosen)
    named = apart(trial for _, trial in others)
    took = {number: UNITS["latency"].show(value) for number, value in latency.items()}
    rows: list[Row] = [
        (
            "knee" if each.number == chosen.number else "",
            str(each.number),
            (what, named[each.number], *found.cells(each), took.get(each.number, "-")),
        )
        for what, each in others
    ]
    for name, baseline in baseline_rows(record.baselines, found.metric):
        rows.append(("baseline", "", ("baseline", name, *found.cells_of_baseline(baseline), "")))
    return Table(("trial", "is", "method", *found.headings, "latency"), rows)


def fitting(estimates: Sequence[Mapping[str, Any]], budget: Budget) -> Table:
    """Which methods keep limits at their defaults, those first; of estimates as JSON has them."""
    rows: list[Row] = []
    for each in estimates:
        costs = each["costs"] or {}
        over = [name for name, limit in budget.limits().items() if costs.get(name) is not None and costs[name] > limit]
        refused = first_line(each["refused"])[:_MOST]
        why = f"does not go on it: {refused}" if not costs else f"too much {' and '.join(over)}" if over else "fits"
        cells = (why, *(COSTS[name].show(costs.get(name)) for name in SHOWN))
        rows.append(("" if why == "fits" else "baseline", each["name"], cells))
    rows.sort(key=lambda row: row[0])
    return Table(("method", "fit", *(COSTS[name].heading for name in SHOWN)), rows)
