"""The plots of the HTML report, as plain figures (data and layout) for plotly.js.

The colours of text and grid come from the page, so that they suit light and dark.

Every text that a user could have written is escaped, because plotly.js reads a little HTML.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from textwrap import wrap
from typing import Any, cast

from autopeft.fronts import front
from autopeft.objectives import COSTS, Objective, show
from autopeft.reports.findings import Findings, baseline_rows
from autopeft.reports.labels import lines_up, positions
from autopeft.reports.wording import capital, describe, describe_fully
from autopeft.sizes import Share
from autopeft.trial import SearchRecord, Status, Trial

_COLOURS = (
    "#2f7de1",
    "#d9622b",
    "#2a9d6f",
    "#b45fc4",
    "#b98a00",
    "#d1495b",
    "#1f9bb0",
    "#7a6ff0",
    "#8a8f3c",
    "#c2567f",
)
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star", "cross", "x")
_DASHES = ("solid", "dot", "dash", "longdash", "dashdot")
_AXES = {"trainable": "trainable parameters", "memory": "predicted peak training memory"}
_GREY = "#868e96"
_LINE = 15
"""Pixels from one line of labels to the next."""
_BYTE_UNITS = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


@dataclass(frozen=True)
class Plot:
    """A figure with what is to be read instead of it and below it."""

    name: str
    title: str
    description: str
    """For those who do not see the plot."""
    figure: Mapping[str, Any]


def plots(record: SearchRecord, found: Findings) -> tuple[Plot, ...]:
    """The plots for which there are trials: scores against both costs, and the front's learning curves."""
    seen = [
        trial
        for trial in record.trials
        if (trial.is_model or trial.status is Status.STOPPED) and trial.score is not None
    ]
    if not seen:
        return ()
    against = [_against(record, found, seen, cost) for cost in ("trainable", "memory") if _positive(seen, cost)]
    return (*against, *((_curves(record, found),) if found.front else ()))


def _positive(trials: Sequence[Trial], cost: str) -> list[Trial]:
    return [trial for trial in trials if trial.value(cost) > 0]


def _against(record: SearchRecord, found: Findings, trials: Sequence[Trial], cost: str) -> Plot:
    drawn = _positive(trials, cost)
    unit, divisor = _unit(drawn) if cost == "memory" else ("", 1)
    members = {trial.number for trial in found.front}
    metric = found.metric
    places = _places(drawn, cost)
    labels = {f"{trial.number}": places[trial.number] for trial in found.front if trial.number in places}
    sides = positions(labels, [*places.values()])
    traces = [_staircase(drawn, metric, COSTS[cost], divisor)]
    for index, name in enumerate(sorted({trial.candidate.name for trial in trials})):
        group = [trial for trial in drawn if trial.candidate.name == name]
        on = [trial.number in members for trial in group]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": escape(name),
                "x": [trial.value(cost) / divisor for trial in group],
                "y": [trial.score for trial in group],
                "text": [f"{trial.number}" if member else "" for trial, member in zip(group, on, strict=True)],
                "textposition": [sides.get(f"{trial.number}", "top center") for trial in group],
                "hovertext": [_hover(found, trial) for trial in group],
                "hoverinfo": "text",
                "cliponaxis": False,
                "marker": {
                    "color": _COLOURS[index % len(_COLOURS)],
                    "symbol": _SYMBOLS[index % len(_SYMBOLS)],
                    "size": [13 if member else 8 for member in on],
                    "opacity": [1.0 if member else 0.45 for member in on],
                    "line": {"width": [1.5 if member else 0 for member in on]},
                },
            }
        )
    shapes, notes = _baselines(record, [trial.score or 0.0 for trial in drawn])
    limit = _limit(record, cost)
    if limit:
        in_sight = _in_sight(limit, [trial.value(cost) for trial in drawn], log=cost == "trainable")
        shapes += [_line("x", limit / divisor, "dot")] if in_sight else []
        at = log10(limit) if cost == "trainable" else limit / divisor
        where = {"x": at, "textangle": -90} if in_sight else {"x": 1, "xref": "paper"}
        text = f"budget {show(cost, limit)}" + ("" if in_sight else " →")
        notes.append(
            {
                **where,
                "y": 0,
                "yref": "paper",
                "yanchor": "bottom",
                "xanchor": "right",
                "text": text,
                "showarrow": False,
            }
        )
    axis: dict[str, Any] = {"title": {"text": f"{_AXES[cost]}{f' ({unit})' if unit else ''}"}}
    axis |= {"type": "log", "dtick": 1, "tickformat": "~s"} if cost == "trainable" else {"type": "linear"}
    title = f"{capital(metric.heading)} against {_AXES[cost]}"
    figure = _figure(metric, traces, axis, shapes, notes)
    said = "; ".join(
        f"trial {t.number} ({describe(t.candidate)}) {metric.show(t.score)} at {show(cost, t.value(cost))}"
        for t in found.front
    )
    return Plot(cost, title, f"{title}. On the front: {said or 'none'}.", figure)


def _places(trials: Sequence[Trial], cost: str) -> Mapping[int, tuple[float, float]]:
    """Where trials stand in the plot, as fractions of it, by number."""
    across = [log10(trial.value(cost)) if cost == "trainable" else trial.value(cost) for trial in trials]
    up = [trial.score or 0.0 for trial in trials]
    left, below = min(across, default=0.0), min(up, default=0.0)
    wide, high = (max(across, default=0.0) - left) or 1.0, (max(up, default=0.0) - below) or 1.0
    placed = zip(trials, across, up, strict=True)
    return {trial.number: ((x - left) / wide, (y - below) / high) for trial, x, y in placed}


def _staircase(trials: Sequence[Trial], metric: Objective, cost: Objective, divisor: int) -> dict[str, Any]:
    """The best score to be had at each cost."""
    best = sorted(front(trials, (metric, cost)), key=lambda trial: trial.value(cost.name))
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "best for its cost",
        "x": [trial.value(cost.name) / divisor for trial in best],
        "y": [trial.score for trial in best],
        "line": {"shape": "hv", "color": _GREY, "width": 1.5},
        "hoverinfo": "skip",
    }


def _curves(record: SearchRecord, found: Findings) -> Plot:
    metric = found.metric
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": escape(f"{trial.number} {trial.candidate.name}"),
            "x": [rung.step for rung in trial.curve],
            "y": [rung.score for rung in trial.curve],
            "hovertext": [
                f"<b>trial {trial.number}</b> {escape(describe(trial.candidate))}<br>"
                f"step {rung.step:,} of {rung.steps:,}: {escape(metric.heading)} {metric.show(rung.score)}, "
                f"training loss {rung.loss:.3g}, {rung.seconds:.0f} s"
                for rung in trial.curve
            ],
            "hoverinfo": "text",
            "line": {"color": _COLOURS[index % len(_COLOURS)], "dash": _DASHES[index // len(_COLOURS) % len(_DASHES)]},
            "marker": {"symbol": _SYMBOLS[index % len(_SYMBOLS)], "size": 7},
        }
        for index, trial in enumerate(found.front)
    ]
    axis = {"title": {"text": "optimizer steps"}, "rangemode": "tozero"}
    scores = [rung.score for trial in found.front for rung in trial.curve]
    title = "Learning curves of the front"
    said = "; ".join(f"trial {t.number} " + ", ".join(metric.show(rung.score) for rung in t.curve) for t in found.front)
    return Plot(
        "curves",
        title,
        f"{title}: {metric.heading} on validation data. {said}.",
        _figure(metric, traces, axis, *_baselines(record, scores)),
    )


def _figure(
    metric: Objective, traces: list[Any], x: Mapping[str, Any], shapes: list[Any], notes: list[Any]
) -> Mapping[str, Any]:
    y = {"title": {"text": escape(metric.heading)}, "automargin": True, "zeroline": False}
    layout = {
        "xaxis": {"automargin": True, "zeroline": False, **x},
        "yaxis": {**y, "tickformat": ".2f"} if metric.is_fraction else y,
        "shapes": shapes,
        "annotations": notes,
        "hovermode": "closest",
        "margin": {"l": 16, "r": 16, "t": 40, "b": 16},
        "legend": {"orientation": "h", "yanchor": "top", "y": -0.28, "x": 0},
        "showlegend": True,
    }
    return {"data": traces, "layout": layout}


def _baselines(record: SearchRecord, scores: Sequence[float]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Dashed lines with their names; one that would squeeze the trials into a corner is only named at the edge."""
    shapes, seen = [], list(scores)
    below: list[dict[str, Any]] = []
    above: list[dict[str, Any]] = []
    within: list[tuple[float, dict[str, Any]]] = []
    for name, baseline in baseline_rows(record.baselines, record.metric):
        value = baseline.score
        text = f"{escape(name)} {record.metric.show(value)}"
        if _in_sight(value, seen):
            shapes.append(_line("y", value, "dash"))
            seen.append(value)
            within.append((value, {"y": value, "text": text}))
        elif value < min(seen):
            below.append({"y": 0, "yref": "paper", "text": f"{text} ↓"})
        else:
            above.append({"y": 1, "yref": "paper", "yanchor": "top", "text": f"{text} ↑"})
    low, high = min(seen, default=0.0), max(seen, default=0.0)
    inside = sorted(within, key=lambda each: each[0])
    lines = [(value - low) / ((high - low) or 1.0) for value, _ in inside]
    moves = lines_up([*(0.0 for _ in below), *lines], lines)
    told = [*below, *(note for _, note in inside)]
    notes = [{**note, "yshift": moved * _LINE} for note, moved in zip(told, moves, strict=True)]
    notes += [{**note, "yshift": -at * _LINE} for at, note in enumerate(above)]
    usual = {"x": 0, "xref": "paper", "xanchor": "left", "yanchor": "bottom", "showarrow": False}
    return shapes, [{**usual, **note} for note in notes]


def _in_sight(value: float, seen: Sequence[float], log: bool = False) -> bool:
    """Whether an axis can show `value` without giving more room to it than to what was seen."""
    at, *others = [log10(each) if log else each for each in (value, *seen)]
    low, high = min(others), max(others)
    return low - (high - low) <= at <= high + (high - low)


def _line(axis: str, value: float, dash: str) -> dict[str, Any]:
    across = "y" if axis == "x" else "x"
    ends = {f"{axis}0": value, f"{axis}1": value, f"{across}0": 0, f"{across}1": 1, f"{across}ref": "paper"}
    return {"type": "line", **ends, "line": {"color": _GREY, "width": 1, "dash": dash}}


def _limit(record: SearchRecord, cost: str) -> int | None:
    """The budget's limit on a cost; none where it is a share of a backbone whose size is not known."""
    limit = getattr(record.plan.budget, cost)
    parameters = record.facts.get("backbone_parameters")
    if isinstance(limit, Share):
        return limit.of(parameters) if isinstance(parameters, int) else None
    return cast("int | None", limit)


def _unit(trials: Sequence[Trial]) -> tuple[str, int]:
    most = max(trial.value("memory") for trial in trials)
    return next(((unit, size) for unit, size in _BYTE_UNITS if most >= size), ("B", 1))


def _hover(found: Findings, trial: Trial) -> str:
    lines = [
        f"<b>trial {trial.number}</b>"
        + (" (knee of the front)" if found.knee and trial.number == found.knee.number else "")
    ]
    lines.append(f"{escape(found.metric.heading)} {found.score(trial)}")
    lines.append(", ".join(f"{cost.heading} {cost.show(trial.value(cost.name))}" for cost in found.costs))
    lines += [escape(line) for line in wrap(describe_fully(trial.candidate, found.of_task), 72)]
    return "<br>".join(lines)
