"""How a training that has reached a rung ends, as far as those tell that have ended. Pure.

Score and training loss at a rung both tell of the end, each with an error that is learned from trainings that have
ended; the surer one counts for more. Losses tell much where few rows are evaluated, scores where losses cannot be
compared. Observed ends are noisy, too: by their standard errors, what a training is worth on other rows is told from
what it happened to score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autopeft.trial import Rung

Array = NDArray[np.float64]

LEAST = 3
"""Ended trainings before anything can be said."""
_BEFORE = 2.0
"""Observations that count for what is expected before there are any."""
_BY_LOSS = 0.7
"""The correlation of ends and losses that is expected before; scores are expected to go on as their noise allows."""
_LITTLE = 0.01
"""What a sign counts that does not make the error smaller."""
_NOISY = 1.25
"""So many times the noise of the rows may be noise: few ends do not tell its size exactly."""
_SURELY = 0.1
"""At least this part of a squared error is not the noise of the rows."""


@dataclass(frozen=True)
class Foretelling:
    """What one rung says of the end; gains are scores of which more is better."""

    level: float
    """An end on average."""
    centre: Array
    """Score and loss at the rung on average: (signs,)."""
    slopes: Array
    """By how much an end rises with each: (signs,)."""
    weights: Array
    """How much each counts; they sum to 1: (signs,)."""
    spread: Array
    """How surely slopes are known: squares off the centre, summed: (signs,)."""
    count: int
    variance: float
    """Of observed ends around what is told."""
    own: float
    """The part of it that other rows would not change."""
    apart: float
    """The variance of ends, other than by their rows."""

    @property
    def tells_much(self) -> bool:
        """Whether it explains more than half of what ends differ by."""
        return self.own < self.apart / 2

    def end(self, curve: Sequence[Rung], rung: int, sign: int) -> tuple[float, float]:
        """The gain at the end, and its standard deviation; hardly ever below what a training has already."""
        here = curve[rung]
        off = _signs(here, sign) - self.centre
        unsure = self.variance * (float(self.weights @ (off**2 / self.spread)) + 1 / self.count)
        return max(self._told(off), sign * here.score - math.sqrt(_noise(here))), math.sqrt(self.own + unsure)

    def worth(self, curve: Sequence[Rung], rung: int, sign: int) -> float:
        """The gain of a training that has ended, on other rows: between what was told of it and what it scored."""
        scored = sign * curve[-1].score
        if len(curve) <= rung + 1:
            return scored
        told = self._told(_signs(curve[rung], sign) - self.centre)
        return told + self.own / (self.own + _noise(curve[-1])) * (scored - told)

    def _told(self, off: Array) -> float:
        """The gain at the end of what is so far off the centre at the rung: (signs,)."""
        return self.level + float(self.weights @ (off * self.slopes))


def foretold(ended: Sequence[Sequence[Rung]], rung: int, sign: int) -> Foretelling | None:
    """What curves of trainings that have ended teach; None where too few went on from that rung."""
    curves = [curve for curve in ended if len(curve) > rung + 1]
    if len(curves) < LEAST:
        return None
    signs = np.array([_signs(curve[rung], sign) for curve in curves])
    ends = sign * np.array([curve[-1].score for curve in curves])
    noise, noise_here = (float(np.mean([_noise(curve[at]) for curve in curves])) for at in (-1, rung))
    level, centre, count = float(ends.mean()), signs.mean(axis=0), len(curves)
    off, above = signs - centre, ends - level
    variances = off.var(axis=0)
    differ = variances > 1e-12 * (1 + centre**2)
    variances = np.where(differ, variances, 1.0)
    spread = (count + _BEFORE) * variances
    steady = max(0.0, 1 - noise_here / variances[0]) if differ[0] else 1.0
    falling = -_BY_LOSS * math.sqrt(above.var() / variances[1]) if differ[1] else 0.0
    expected = np.array([steady, falling])
    slopes = np.where(differ, (off.T @ above + _BEFORE * variances * expected) / spread, expected)
    others = np.maximum(1 - off**2 / spread - 1 / count, 0.2)
    left = (above[:, None] - off * slopes) / others
    passed_on = np.array([noise_here, 0.0]) * slopes**2
    alone = np.maximum(_without(noise, _variance(left, noise)), passed_on)
    nothing = _without(noise, _variance(above / (1 - 1 / count), noise))
    tells = np.maximum((nothing / alone) ** 2 - 1, _LITTLE) * np.array([1.0, differ[1]])
    weights = tells / tells.sum()
    variance = float(_variance(left @ weights, noise))
    return Foretelling(
        level, centre, slopes, weights, spread, count, variance, float(_without(noise, variance)), float(nothing)
    )


def _without(noise: float, variances: Array | float) -> Array:
    return np.maximum(variances - _NOISY * noise, _SURELY * variances)


def _variance(left: Array, noise: float) -> Array:
    """Of what is left unexplained (trainings,) or (trainings, signs); expected is the noise."""
    return np.asarray(((left**2).sum(axis=0) + _BEFORE * noise) / (len(left) + _BEFORE)) + 1e-12


def _signs(rung: Rung, sign: int) -> tuple[float, float]:
    return sign * rung.score, math.log(max(rung.loss, 1e-6)) if math.isfinite(rung.loss) else 0.0


def _noise(rung: Rung) -> float:
    """The squared standard error; none where nobody knows it."""
    return rung.error**2 if math.isfinite(rung.error) else 0.0
