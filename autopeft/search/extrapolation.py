"""How a training that has reached a rung may end, as far as those tell that have ended. Pure."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from autopeft.trial import Rung

LEAST = 3
"""Ended trainings before anything can be said."""
_NEAREST = 8
"""Those of them that count: the ones that were nearest in score at the same rung."""


def ends(curve: Sequence[Rung], ended: Iterable[Sequence[Rung]]) -> NDArray[np.float64]:
    """Scores at which a training may end: what it has, and what each of others gained after the same rung.

    Empty where fewer than `LEAST` of them have that rung.
    """
    here = len(curve) - 1
    others = np.array([(other[here].score, other[-1].score) for other in ended if len(other) > here])
    if len(others) < LEAST:
        return np.empty(0)
    then, finally_ = others.T
    nearest = np.argsort(np.abs(then - curve[here].score), kind="stable")[:_NEAREST]
    gained: NDArray[np.float64] = (finally_ - then)[nearest]
    return curve[here].score + gained
