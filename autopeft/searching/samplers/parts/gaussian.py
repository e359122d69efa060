"""A Gaussian process over distances in groups: what is known of some points, and how surely, from others.

Matérn 5/2 with one length per group, so that a few dozen observations are enough to learn what matters; lengths, signal
and noise are the most probable ones under broad priors around 1. About a hundred observations take a tenth of a second.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

Array = NDArray[np.float64]

_SPREAD_OF_LENGTHS = 1.0
_SPREAD_OF_SIGNAL = 0.5
_NOISE, _SPREAD_OF_NOISE = math.log(0.1), 1.0
_FARTHEST = 8.0
"""Spreads between what priors expect and all that is tried: farther off, covariances are not positive definite any more
for rounding errors.
"""
_JITTER = 1e-6
"""What is added to a variance, as a fraction of the signal's."""


@dataclass(frozen=True)
class Gaussian:
    """A process conditioned on observations; distances have shape (groups, points, points)."""

    logs: Array
    """Logarithms: a length for each group, signal variance, noise variance; in units of the observations' spread."""
    weights: Array
    """What each observation adds to a mean; nothing, where it is only awaited."""
    factor: Array
    """Lower Cholesky factor of the observations' covariance."""
    mean: float
    spread: float

    def predict(self, distances: Array) -> tuple[Array, Array]:
        """Means and standard deviations of the noise-free values, from (groups, observations, points)."""
        kernel = _kernel(distances, self.logs)[0]
        solved = solve_triangular(self.factor, kernel, lower=True, check_finite=False)
        variance = np.maximum(np.exp(self.logs[-2]) - (solved**2).sum(0), 1e-12)
        return self.mean + self.spread * (kernel.T @ self.weights), self.spread * np.sqrt(variance)

    def awaiting(self, distances: Array, within: Array) -> "Gaussian":
        """The process that awaits further observations, which are to turn out as believed: means stay, and deviations
        shrink near them. Distances are (groups, observations, points) and (groups, points, points).
        """
        kernel, (own, _) = _kernel(distances, self.logs)[0], _kernel(within, self.logs)
        own += (_JITTER * np.exp(self.logs[-2]) + np.exp(self.logs[-1])) * np.eye(len(own))
        below = solve_triangular(self.factor, kernel, lower=True, check_finite=False)
        corner = cholesky(own - below.T @ below, lower=True, check_finite=False)
        have, more = len(self.factor), len(own)
        factor = np.zeros((have + more, have + more))
        factor[:have, :have], factor[have:, :have], factor[have:, have:] = self.factor, below.T, corner
        return replace(self, factor=factor, weights=np.concatenate([self.weights, np.zeros(more)]))


def fitted(distances: Array, values: Array, lengths: Array, doubts: Array | float = 0.0) -> Array:
    """The most probable logarithms of lengths, signal and noise; `lengths` are where the priors expect the first.

    `doubts` are standard deviations of single values beside the noise that all have.
    """
    values, _, spread = _standard(values)
    doubted = _doubted(doubts, spread, len(values))
    expected = np.array([*np.log(lengths), 0.0, _NOISE])
    spreads = np.array([_SPREAD_OF_LENGTHS] * len(lengths) + [_SPREAD_OF_SIGNAL, _SPREAD_OF_NOISE])

    def loss(logs: Array) -> tuple[float, Array]:
        kernel, slope, factor = _observed(distances, logs, doubted)
        weights = cho_solve((factor, True), values)
        inverse = _inverse(factor)
        pull = inverse - np.outer(weights, weights)
        gradient = np.empty_like(logs)
        shared = pull * slope
        gradient[:-2] = 0.5 * np.einsum("ij,gij->g", shared, distances) * np.exp(-2 * logs[:-2])
        gradient[-2] = 0.5 * (pull * kernel).sum()
        gradient[-1] = 0.5 * np.exp(logs[-1]) * np.trace(pull)
        off = (logs - expected) / spreads
        fit = 0.5 * values @ weights + np.log(np.diag(factor)).sum()
        return float(fit + 0.5 * off @ off), gradient + off / spreads

    within = np.stack([expected - _FARTHEST * spreads, expected + _FARTHEST * spreads], axis=1)
    best = minimize(loss, expected, jac=True, method="L-BFGS-B", bounds=within, options={"maxiter": 60})
    return np.asarray(best.x)


def conditioned(distances: Array, values: Array, logs: Array, doubts: Array | float = 0.0) -> Gaussian:
    """The process that has seen these values."""
    values, mean, spread = _standard(values)
    _, _, factor = _observed(distances, logs, _doubted(doubts, spread, len(values)))
    return Gaussian(logs, cho_solve((factor, True), values), factor, mean, spread)


def _observed(distances: Array, logs: Array, doubted: Array) -> tuple[Array, Array, Array]:
    """Of observations: the kernel with its jitter, its derivative, and the lower Cholesky factor of the covariance."""
    kernel, slope = _kernel(distances, logs)
    one = np.eye(len(kernel))
    kernel += _JITTER * np.exp(logs[-2]) * one
    return kernel, slope, cholesky(kernel + np.exp(logs[-1]) * one + doubted, lower=True)


def _inverse(factor: Array) -> Array:
    """Of the matrix that has this lower Cholesky factor."""
    lower, _ = dpotri(factor, lower=1)
    # Above the diagonal it is as empty as the factor.
    inverse: Array = lower + lower.T
    np.fill_diagonal(inverse, lower.diagonal())
    return inverse


def _doubted(doubts: Array | float, spread: float, count: int) -> Array:
    """A covariance, in units of the observations' spread."""
    return np.diag(np.broadcast_to((np.asarray(doubts) / spread) ** 2, count))


def _kernel(distances: Array, logs: Array) -> tuple[Array, Array]:
    """The covariance, and its derivative by the logarithm of a length, before the group's scaled distance."""
    squared = np.einsum("gij,g->ij", distances, np.exp(-2 * logs[:-2]))
    reach = np.sqrt(5 * squared)
    decayed = np.exp(logs[-2] - reach)
    return (1 + reach + 5 / 3 * squared) * decayed, 5 / 3 * (1 + reach) * decayed


def _standard(values: Array) -> tuple[Array, float, float]:
    mean, spread = float(values.mean()), float(values.std())
    spread = spread if spread > 1e-9 else 1.0
    return (values - mean) / spread, mean, spread
