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
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from autopeft.searching.samplers.parts.features import GROUPS, Array, Described, Reference
from autopeft.searching.samplers.parts.gaussian import Gaussian, conditioned, fitted
from autopeft.searching.samplers.parts.trend import trend_of

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

    def __init__(
        self,
        results: Sequence[Result],
        pending: Sequence[tuple[Described, float]],
        lengths: "Lengths | None" = None,
    ) -> None:
        """`pending` candidates come with the logarithms of their sizes. `lengths` are looked for where none
        are given.
        """
        values = _without_depths(np.array([result.gain for result in results]))
        doubts = np.array([result.doubt for result in results])
        seen = [_point(each.candidate, each.size) for each in results]
        self._count = len(seen)
        self._trend = trend_of(_steady(seen), values, _RIDGE)
        left = values - self._trend.at(_steady(seen))
        self._from = Reference(seen, GROUPS)
        within = self._from.distances()
        survived = np.isfinite([result.gain for result in results])
        known = lengths is not None and (survived.all() or lengths.of_survival is not None)
        self.lengths = lengths if lengths and known else Lengths.of(within, left, doubts, survived)
        self._model: Gaussian = conditioned(within, left, self.lengths.of_gains, doubts)
        self._survival = None
        if self.lengths.of_survival is not None:
            self._survival = conditioned(within, survived.astype(float), self.lengths.of_survival)
        self.await_(pending)

    def await_(self, pending: Sequence[tuple[Described, float]]) -> None:
        """Further candidates, with the logarithms of their sizes, that count as if they turned out as believed."""
        if pending:
            points = _points(pending)
            self._model = self._model.awaiting(
                self._from.distances(points), Reference(points, self._from.groups).distances()
            )
            self._from.add(points)

    def judged(self, candidates: Sequence[tuple[Described, float]]) -> "Judged":
        """What is believed of candidates with the logarithms of their sizes."""
        points = _points(candidates)
        distances = self._from.distances(points)
        means, deviations = self._model.predict(distances)
        chances = np.ones(len(points))
        if self._survival is not None:
            chances = np.clip(self._survival.predict(distances[:, : self._count])[0], _LEAST_CHANCE, 1.0)
        return Judged(means + self._trend.at(_steady(points)), deviations, chances)


class Judged(NamedTuple):
    """What is believed of candidates, each (candidates,)."""

    means: Array
    """Of gains after the whole training."""
    deviations: Array
    chances: Array
    """That they do not fail, as far as those near them did or did not."""


@dataclass(frozen=True)
class Lengths:
    """What matters: it is looked for anew only now and then, because that takes long and changes little."""

    of_gains: Array
    of_survival: Array | None
    """Lengths of its own, because failures follow from other differences than gains do; None where none failed."""

    @classmethod
    def of(cls, within: Array, gains: Array, doubts: Array, survived: NDArray[np.bool_]) -> Self:
        expected = np.array([_MATTERS[group] for group in GROUPS])
        of_survival = None if survived.all() else fitted(within, survived.astype(float), expected)
        return cls(fitted(within, gains, expected, doubts), of_survival)


def _points(candidates: Sequence[tuple[Described, float]]) -> list[Described]:
    return [_point(each, size) for each, size in candidates]


def _point(candidate: Described, size: float) -> Described:
    return Described({**candidate.groups, "size": {"decades": size / math.log(10)}})


def _steady(points: Sequence[Described]) -> Array:
    """(points, coordinates)"""
    values = [[each.groups.get(group, {}).get(name, 0.0) for group, name in _STEADY] for each in points]
    return np.array(values).reshape(-1, len(_STEADY))


def _without_depths(values: Array) -> Array:
    """Failures as bad as the worst that did not fail, and that not too low."""
    shown = values[np.isfinite(values)]
    if len(shown) == 0:
        return np.zeros(len(values))
    median = float(np.median(shown))
    spread = max(float(shown.max()) - median, _LEAST_SPREAD)
    return np.maximum(values, max(float(shown.min()), median - _LOWEST * spread))
