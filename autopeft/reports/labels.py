"""Where labels of points and lines in a plot stand, so that they can be read: beside each other. Pure.

Places are fractions of the plot, from its lower left corner; how large letters are in it is guessed for a plot as wide
as a page shows it.
"""

from collections.abc import Iterator, Mapping, Sequence

_WIDTH, _HEIGHT = 0.018, 0.05
"""Of a character, and of a line."""
_MARK, _GAP = 0.015, 0.018
"""Of a point, and from it to its label."""
_AROUND = {
    "top center": (0, 1),
    "bottom center": (0, -1),
    "middle right": (1, 0),
    "middle left": (-1, 0),
    "top right": (1, 1),
    "top left": (-1, 1),
    "bottom right": (1, -1),
    "bottom left": (-1, -1),
}
"""Plotly's names of places around a point, in the order in which they are liked, with where they lie."""
Point = tuple[float, float]
_Box = tuple[float, float, float, float]
"""Left, right, below, above."""


def positions(labelled: Mapping[str, Point], points: Sequence[Point]) -> Mapping[str, str]:
    """By label, on which side of its point it covers least of other labels, and of all points; the first come first."""
    marks = [(x - _MARK, x + _MARK, y - _MARK, y + _MARK) for x, y in points]
    chosen: dict[str, str] = {}
    for text, point in labelled.items():
        boxes = {name: _box(text, point, *where) for name, where in _AROUND.items()}
        chosen[text] = min(boxes, key=lambda name: sum(_common(boxes[name], other) for other in marks))
        marks.append(boxes[chosen[text]])
    return chosen


def _box(text: str, point: Point, right: int, up: int) -> _Box:
    width = len(text) * _WIDTH
    x = point[0] + right * (_GAP + width / 2)
    y = point[1] + up * (_GAP + _HEIGHT / 2)
    return x - width / 2, x + width / 2, y - _HEIGHT / 2, y + _HEIGHT / 2


def _common(one: _Box, other: _Box) -> float:
    """The area that two boxes share."""
    width = min(one[1], other[1]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[2], other[2])
    return max(width, 0.0) * max(height, 0.0)


def lines_up(heights: Sequence[float], drawn: Sequence[float] = ()) -> Iterator[int]:
    """How many lines each label moves up, or down where less than 0, of labels that stand on one edge at these heights:
    none covers another, and none is crossed by a line that is `drawn` across the plot while there is another place.
    """
    taken: list[float] = []
    for height in heights:
        free = [moved for moved in (0, -1, *range(1, len(heights) + 1)) if _is_free(height + moved * _HEIGHT, taken)]
        uncrossed = (moved for moved in free if not _is_crossed(height + moved * _HEIGHT, drawn))
        moved = next(uncrossed, free[0] if free else 0)
        taken.append(height + moved * _HEIGHT)
        yield moved


def _is_free(foot: float, taken: Sequence[float]) -> bool:
    return foot >= 0 and not any(abs(foot - other) < _HEIGHT * 0.99 for other in taken)


def _is_crossed(foot: float, drawn: Sequence[float]) -> bool:
    return any(foot + 0.01 * _HEIGHT < line < foot + 0.99 * _HEIGHT for line in drawn)
