"""What is believed of the gains of candidates (their scores, so that more is better), from the trials so far.

It follows a trend (more trainable parameters, more layers, longer training or a higher learning rate are better, or
worse, on this data), so that something is believed of candidates that are larger than any so far; and what is left
follows from trials nearby.

What was stopped early, or is being trained, counts with the gain at which it may end and how unsure that is
(`extrapolation`). Trainings that failed to learn are all the same to it, however low they fell; how likely failures are
is believed apart, from those nearby. Proposals without an outcome count as if they had turned out as believed, so that
nobody proposes the like of them again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autopeft.search.samplers.parts.features import GROUPS, Array, Described, squared_distances
from autopeft.search.samplers.parts.gaussian import Gaussian, conditioned, fitted
from autopeft.search.samplers.parts.trend import trend_of

_MATTERS = {
    "form": 1.0,
    "place": 1.5,
    "size": 1.5,
    "speed": 0.7,
    "head": 1.5,
    "schedule": 1.5,
    "settings": 2.0,
}
"""Differences in each group's coordinates that are expected to matter."""
_STEADY = (("size", "decades"), ("place", "layers"), ("schedule", "epochs"), ("speed", "mean"))
"""Coordinates along which gains often rise or fall steadily, as far as candidates go; by group and name."""
_RIDGE = 1.0
"""Observations of no effect that each of them begins with."""
_LOWEST = 3.0
"""The worst gain that counts lies so many times as far below the median as the best lies above it."""
_LEAST_SPREAD = 0.01
_LEAST_CHANCE = 0.001
"""That a candidate does not fail, whatever became of those near it."""


@dataclass(frozen=True)
class Result:
    """What a trial showed."""

    candidate: Described
    size: float
    """Logarithm of its trainable parameters."""
    gain: float
    """At the end of training, or where that may be; -inf where it failed."""
    doubt: float
    """Standard deviation of that end; 0 where it was seen."""


class Gains:
    """A model of gains at the end of training."""

    def __init__(self, results: Sequence[Result], pending: Sequence[tuple[Described, float]]) -> None:
        """`pending` candidates come with the logarithms of their sizes."""
        values = _without_depths(np.array([result.gain for result in results]))
        doubts = np.array([result.doubt for result in results])
        self._seen = [_point(each.candidate, each.size) for each in results]
        self._trend = trend_of(_steady(self._seen), values, _RIDGE)
        left = values - self._trend.at(_steady(self._seen))
        within = squared_distances(self._seen, self._seen, GROUPS)
        expected = np.array([_MATTERS[group] for group in GROUPS])
        lengths = fitted(within, left, expected, doubts)
        self._model: Gaussian = conditioned(within, left, lengths, doubts)
        survived = np.isfinite([result.gain for result in results])
        self._survival = None if survived.all() else _chances(within, survived, expected)
        if pending:
            awaited = _points(pending)
            believed, _ = self._model.predict(squared_distances(self._seen, awaited, GROUPS))
            self._seen = [*self._seen, *awaited]
            within = squared_distances(self._seen, self._seen, GROUPS)
            doubts = np.concatenate([doubts, np.zeros(len(pending))])
            self._model = conditioned(within, np.concatenate([left, believed]), lengths, doubts)

    def believed(self, candidates: Sequence[tuple[Described, float]]) -> tuple[Array, Array]:
        """Means and standard deviations after the whole training, of candidates with the logarithms of their sizes."""
        points = _points(candidates)
        means, deviations = self._model.predict(squared_distances(self._seen, points, GROUPS))
        return means + self._trend.at(_steady(points)), deviations

    def survive(self, candidates: Sequence[tuple[Described, float]]) -> Array:
        """Chances that candidates do not fail, as far as those near them did or did not."""
        if self._survival is None:
            return np.ones(len(candidates))
        ended = self._seen[: len(self._survival.weights)]
        means, _ = self._survival.predict(squared_distances(ended, _points(candidates), GROUPS))
        return np.clip(means, _LEAST_CHANCE, 1.0)


def _points(candidates: Sequence[tuple[Described, float]]) -> list[Described]:
    return [_point(each, size) for each, size in candidates]


def _point(candidate: Described, size: float) -> Described:
    return Described({**candidate.groups, "size": {"decades": size / math.log(10)}})


def _steady(points: Sequence[Described]) -> Array:
    """(points, coordinates)"""
    return np.array([[each.groups.get(group, {}).get(name, 0.0) for group, name in _STEADY] for each in points])


def _chances(within: Array, survived: NDArray[np.bool_], expected: Array) -> Gaussian:
    """Not to fail; with lengths of its own, because failures follow from other differences than gains do."""
    values = survived.astype(float)
    return conditioned(within, values, fitted(within, values, expected))


def _without_depths(values: Array) -> Array:
    """Failures as bad as the worst that did not fail, and that not too low."""
    shown = values[np.isfinite(values)]
    if len(shown) == 0:
        return np.zeros(len(values))
    median = float(np.median(shown))
    spread = max(float(shown.max()) - median, _LEAST_SPREAD)
    return np.maximum(values, max(float(shown.min()), median - _LOWEST * spread))
