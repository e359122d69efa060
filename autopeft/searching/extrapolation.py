"""How a training that has reached a rung may end, as far as those tell that have ended."""

import math
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from autopeft.trial import Rung

LEAST = 3
"""Ended trainings before anything can be said."""
_NEAREST = 8
"""Those of them that count: the ones that were nearest in score at the same rung."""


class Ended:
    """Trainings that have ended, for each rung in the order of their scores there: whoever asks looks at a few."""

    def __init__(self, curves: Iterable[Sequence[Rung]] = ()) -> None:
        self._at: dict[int, list[tuple[float, int, float]]] = defaultdict(list)
        """Score at the rung, which one it was, score at the end."""
        self._numbers = count()
        for curve in curves:
            self.add(curve)

    def add(self, curve: Sequence[Rung]) -> None:
        """One more, whose score at the end is a number."""
        number = next(self._numbers)
        for here, rung in enumerate(curve):
            if math.isfinite(rung.score):
                insort(self._at[here], (rung.score, number, curve[-1].score))

    def ends(self, curve: Sequence[Rung]) -> NDArray[np.float64]:
        """Scores at which a training may end: what it has, and what each of others gained after the same rung.

        Empty where fewer than `LEAST` of them have that rung.
        """
        own, others = curve[-1].score, self._at.get(len(curve) - 1, [])
        if len(others) < LEAST:
            return np.empty(0)
        at = bisect_left(others, (own,))
        near = others[at : at + _NEAREST]
        while at > 0 and len(near) < 2 * _NEAREST:
            # Of those that were equal the earliest come first, also below.
            first = bisect_left(others, (others[at - 1][0],))
            near += others[first : min(first + _NEAREST, at)]
            at = first
        near = sorted(near, key=lambda each: (abs(each[0] - own), each[1]))[:_NEAREST]
        return np.array([own + (end - then) for then, _, end in near])


def ends(curve: Sequence[Rung], ended: Iterable[Sequence[Rung]]) -> NDArray[np.float64]:
    """The same, by those of others that are given."""
    return Ended(ended).ends(curve)
