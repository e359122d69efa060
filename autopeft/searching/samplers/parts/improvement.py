"""How much a candidate may add to a front when its costs are known and its gain is only believed. Pure.

Whoever has a certain budget uses the best trial that fits it, or what is trivial and gains nothing. A candidate
improves that for all budgets that it fits, by as much as its gain exceeds what they have now. Averaged over budgets
this is the expected hypervolume improvement, exact but for the choice of budgets, for any number of costs.
"""

import math

import numpy as np
from scipy.special import ndtr

from autopeft.searching.samplers.parts.features import Array

_BUDGETS = 512
"""On each of both scales."""


class Improvement:
    """The expected improvement over trials, given by costs (trials, costs) and gains (trials,)."""

    def __init__(self, costs: Array, gains: Array, budgets: Array) -> None:
        """A budget (one row of `budgets` each) that nothing fits has a gain of 0."""
        self._budgets = budgets
        self._have = np.zeros(len(budgets))
        self.take(costs, gains)

    def take(self, costs: Array, gains: Array) -> None:
        """Further trials."""
        fits = (costs[:, None] <= self._budgets[None]).all(axis=2)
        self._have = np.maximum(self._have, np.where(fits, gains[:, None], 0.0).max(axis=0, initial=0.0))

    def of(self, costs: Array, means: Array, deviations: Array) -> Array:
        """Of candidates: their costs (candidates, costs), and what is believed of their gains (candidates,)."""
        fits = (costs[:, None] <= self._budgets[None]).all(axis=2)
        gains = fits * expected_excess(means[:, None], deviations[:, None], self._have[None])
        return np.asarray(gains.mean(axis=1))


def expected_excess(means: Array, deviations: Array, over: Array) -> Array:
    """By how much normal values exceed others, where they do, on average."""
    deviations = np.maximum(deviations, 1e-9)
    off = (means - over) / deviations
    return np.asarray(deviations * (off * ndtr(off) + np.exp(-0.5 * off**2) / math.sqrt(2 * math.pi)))


def for_their_seconds(adds: Array, durations: Array, spent: float) -> Array:
    """What candidates add, weighed against the logarithms of their seconds, when a part of a search's trials or time is
    `spent`: divided by their seconds at the beginning, and as it is at the end.
    """
    return np.asarray(adds * np.exp((spent - 1) * durations))


def budgets_between(costs: Array, rng: np.random.Generator) -> Array:
    """Budgets up to the largest of these costs (candidates, costs), all in logarithms.

    Half of them lie evenly between the logarithms of the least and the largest costs, where halving a cost is worth the
    same everywhere; the other half evenly between nothing and the largest costs themselves.
    """
    low, high = costs.min(axis=0), costs.max(axis=0)
    shape = (_BUDGETS, costs.shape[1])
    by_factors = low + rng.random(shape) * (high - low)
    by_amounts = high + np.log1p(-rng.random(shape))
    return np.concatenate([by_factors, by_amounts])
