"""What is believed of the accuracy of candidates, from the trials so far.

What was stopped early, or is being trained, counts with the accuracy and the fraction of its training that it reached:
the model learns how much more training brings. On ten synthetic surfaces that could not be told apart from taking the
accuracy so far for the final one, from taking in every rung, or from adding what finished trials gained after the same
rung. Trainings that failed to learn are all the same to it, however low they fell; and proposals without an outcome
count as if they had turned out as believed, so that nobody proposes the like of them again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autopeft.search.samplers.features import GROUPS, Array, Described, squared_distances
from autopeft.search.samplers.gaussian import Gaussian, conditioned, fitted

_MATTERS = {
    "form": 1.0,
    "place": 1.5,
    "size": 1.5,
    "speed": 0.7,
    "head": 1.5,
    "schedule": 1.5,
    "settings": 2.0,
    "trained": 1.5,
}
"""Differences in each group's coordinates that are expected to matter."""
_LOWEST = 3.0
"""The worst accuracy that counts lies so many times as far below the median as the best lies above it."""
_LEAST_SPREAD = 0.01


@dataclass(frozen=True)
class Result:
    """An accuracy that was seen."""

    candidate: Described
    size: float
    """Logarithm of its trainable parameters."""
    trained: float
    """Fraction of the whole training that it was seen after."""
    accuracy: float


class Accuracy:
    """A model of accuracies at the end of training."""

    def __init__(self, results: Sequence[Result], pending: Sequence[tuple[Described, float]]) -> None:
        """`pending` candidates come with the logarithms of their sizes."""
        values = _without_depths(np.array([result.accuracy for result in results]))
        self.worst = float(values.min())
        self._seen = [_point(each.candidate, each.size, each.trained) for each in results]
        within = squared_distances(self._seen, self._seen, GROUPS)
        lengths = fitted(within, values, np.array([_MATTERS[group] for group in GROUPS]))
        self._model: Gaussian = conditioned(within, values, lengths)
        if pending:
            believed, _ = self.believed(pending)
            self._seen = [*self._seen, *(_point(each, size, 1.0) for each, size in pending)]
            within = squared_distances(self._seen, self._seen, GROUPS)
            self._model = conditioned(within, np.concatenate([values, believed]), lengths)

    def believed(self, candidates: Sequence[tuple[Described, float]]) -> tuple[Array, Array]:
        """Means and standard deviations after the whole training, of candidates with the logarithms of their sizes."""
        points = [_point(each, size, 1.0) for each, size in candidates]
        return self._model.predict(squared_distances(self._seen, points, GROUPS))


def _point(candidate: Described, size: float, trained: float) -> Described:
    more = {"size": {"decades": size / math.log(10)}, "trained": {"trained": math.log(trained) / 2}}
    return Described({**candidate.groups, **more})


def _without_depths(values: Array) -> Array:
    median = float(np.median(values))
    spread = max(float(values.max()) - median, _LEAST_SPREAD)
    return np.maximum(values, median - _LOWEST * spread)
