"""A linear trend through observations, which goes on beyond them, where a Gaussian process only knows their mean."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trend:
    """Values that rise or fall steadily along coordinates."""

    centre: Array
    """(coordinates,)"""
    level: Array
    """The value there, or several: (values,)."""
    slopes: Array
    """(coordinates,) or (coordinates, values)."""

    def at(self, points: Array) -> Array:
        """Values at points (points, coordinates)."""
        return np.asarray(self.level + (points - self.centre) @ self.slopes)


def trend_of(points: Array, values: Array, ridge: float, expected: Array | None = None) -> Trend:
    """The trend through points (points, coordinates) with values (points,) or (points, values).

    Slopes are as `expected` (0 where it is not given) until observations say otherwise; `ridge` is how many
    observations, each a coordinate of 1 away from the centre, that counts as.
    """
    centre, level = points.mean(axis=0), np.asarray(values.mean(axis=0))
    slopes = np.zeros((points.shape[1], *values.shape[1:])) if expected is None else expected
    off = points - centre
    left = values - level - off @ slopes
    learned = np.linalg.solve(off.T @ off + ridge * np.eye(len(slopes)), off.T @ left)
    return Trend(centre, level, slopes + learned)
