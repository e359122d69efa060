"""Plots of fronts as SVG, which needs no script. Tables tell the same to those who do not see them."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from autopeft.objectives import SCORE, show
from autopeft.trial import SearchRecord, Trial

LETTERS = "ABCDE"
"""What searches are called in a plot of several."""
_WIDTH, _HEIGHT, _EDGE = 640, 260, 36
_COST = "memory"
_GLANCE = 96, 24
_COLOUR = "#5a8fd6"
"""Of what has no style sheet; seen on light and on dark."""


def plot(searches: Sequence[tuple[SearchRecord, Sequence[Trial]]], chosen: int | None = None) -> Markup:
    """Score over memory of all trials that have both, for each search with its front. Members are filled and joined,
    and have their numbers, or the letters of their searches; nothing where there is nothing to draw.
    """
    judged = [[each for each in record.trials if _has_both(each)] for record, _ in searches]
    every = [each for trials in judged for each in trials]
    if not every:
        return Markup()
    costs, scores = [each.value(_COST) for each in every], [each.value(SCORE) for each in every]
    metric = searches[0][0].metric
    drawn = [_axes([show(_COST, min(costs)), show(_COST, max(costs))], f"{metric.heading} {metric.show(max(scores))}")]
    for at, (trials, (_, front)) in enumerate(zip(judged, searches, strict=True)):
        members = {each.number for each in front}
        places = {each.number: _place(each, costs, scores) for each in trials}
        marks = [
            _mark(
                *places[each.number],
                f"{'member' if each.number in members else 'other'}{' chosen' if each.number == chosen else ''}",
                "" if each.number not in members else str(each.number) if len(searches) == 1 else LETTERS[at],
            )
            for each in trials
        ]
        line = _line([places[each.number] for each in _by_cost(front) if each.number in places], "line")
        drawn.append(Markup('<g class="search{}">{}{}</g>').format(at, line, Markup("").join(marks)))
    of = "" if len(searches) == 1 else f" in {len(searches)} searches"
    label = f"{metric.heading} over memory of {len(every)} trials{of}; the table below tells of the front."
    legend = "Filled, with its number: a trial of the front." if len(searches) == 1 else "Filled: a search's front."
    legend += " Hollow: another trial." if len(every) > sum(len(_by_cost(front)) for _, front in searches) else ""
    legend += " Ringed: the choice." if chosen is not None else ""
    whole = Markup(
        '<svg class="front" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg><p class="legend soft">{}</p>'
    )
    return whole.format(_WIDTH, _HEIGHT, label, Markup("").join(drawn), legend)


def glance(front: Sequence[Trial]) -> str:
    """A front so small that it fits into a line, as a picture of its own: scores over the order of memory."""
    members = _by_cost(front)
    width, height = _GLANCE
    scores = [each.value(SCORE) for each in members]
    places = [
        (_at(at, range(len(members)), width, 3), height - _at(score, scores, height, 3))
        for at, score in enumerate(scores)
    ]
    line = _line(places, "line") + Markup("").join(_mark(x, y, "member", "", 2) for x, y in places)
    whole = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" fill="{}" stroke="{}">{}</svg>'
    return whole.format(width, height, _COLOUR, _COLOUR, line)


def _has_both(trial: Trial) -> bool:
    return trial.score is not None and math.isfinite(trial.score) and math.isfinite(trial.value(_COST))


def _by_cost(front: Sequence[Trial]) -> list[Trial]:
    return sorted((each for each in front if _has_both(each)), key=lambda each: each.value(_COST))


def _place(trial: Trial, costs: Sequence[float], scores: Sequence[float]) -> tuple[float, float]:
    return _at(trial.value(_COST), costs, _WIDTH), _HEIGHT - _at(trial.value(SCORE), scores, _HEIGHT)


def _axes(ends: Sequence[str], top: str) -> Markup:
    told = Markup('<text class="soft" x="{}" y="{}" text-anchor="{}">{}</text>')
    return Markup("").join(
        [
            told.format(_EDGE, _HEIGHT - 4, "start", ends[0]),
            told.format(_WIDTH - _EDGE, _HEIGHT - 4, "end", f"memory {ends[1]}"),
            told.format(4, 14, "start", top),
        ]
    )


def _line(places: Sequence[tuple[float, float]], kind: str) -> Markup:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return Markup('<polyline class="{}" fill="none" points="{}"></polyline>').format(kind, points)


def _mark(x: float, y: float, kind: str, told: str, radius: int = 5) -> Markup:
    dot = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"></circle>').format(kind, x, y, radius)
    return dot + (Markup('<text x="{:.1f}" y="{:.1f}">{}</text>').format(x + 7, y + 4, told) if told else Markup())


def _at(value: float, values: Sequence[float], length: int, edge: int = _EDGE) -> float:
    low, high = min(values), max(values)
    return edge + (length - 2 * edge) * ((value - low) / (high - low) if high > low else 0.5)
