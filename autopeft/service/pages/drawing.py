"""A plot of a front as SVG, which needs no script; its table tells the same to those who do not see it."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from autopeft.objectives import SCORE, show
from autopeft.trial import SearchRecord, Trial

_WIDTH, _HEIGHT, _EDGE = 640, 260, 36
_COST = "memory"


def front_of(record: SearchRecord, front: Sequence[Trial]) -> Markup:
    """Score over memory of all trials that have both; those on the front are filled and have their numbers."""
    on_front = {each.number for each in front}
    judged = [each for each in record.trials if each.score is not None and math.isfinite(each.score)]
    points = [(each.number, each.value(_COST), each.value(SCORE)) for each in judged]
    points = [each for each in points if math.isfinite(each[1])]
    if not points:
        return Markup()
    costs, scores = [x for _, x, _ in points], [y for _, _, y in points]
    marks = [
        _mark(number, _at(x, costs, _WIDTH), _HEIGHT - _at(y, scores, _HEIGHT), number in on_front)
        for number, x, y in points
    ]
    ends = [show(_COST, min(costs)), show(_COST, max(costs))]
    told = Markup('<text class="soft" x="{}" y="{}" text-anchor="{}">{}</text>')
    axis = Markup("").join(
        [
            told.format(_EDGE, _HEIGHT - 4, "start", ends[0]),
            told.format(_WIDTH - _EDGE, _HEIGHT - 4, "end", ends[1]),
            told.format(4, 14, "start", f"{record.metric.heading} {record.metric.show(max(scores))}"),
        ]
    )
    label = f"{record.metric.heading} over memory of {len(points)} trials; the table below tells of the front."
    whole = Markup('<svg class="front" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>')
    return whole.format(_WIDTH, _HEIGHT, label, axis, Markup("").join(marks))


def _mark(number: int, x: float, y: float, on_front: bool) -> Markup:
    kind = "member" if on_front else "other"
    dot = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="5"></circle>').format(kind, x, y)
    return dot + (
        Markup('<text x="{:.1f}" y="{:.1f}">{}</text>').format(x + 7, y + 4, number) if on_front else Markup()
    )


def _at(value: float, values: Sequence[float], length: int) -> float:
    low, high = min(values), max(values)
    return _EDGE + (length - 2 * _EDGE) * ((value - low) / (high - low) if high > low else 0.5)
