"""Metrics as functions of sums over rows, so that scores stream, merge, and have an error.

Each row of a split gives k numbers (its statistics): right or not, loss and tokens, true and false positives. A metric
is a smooth function of their sums. So an evaluation keeps no logits, the sums of two parts of a split add up to those
of the whole, and every score has a standard error by the delta method (to first order, what a row adds to the score is
the metric's gradient at the sums, times how far the row lies from the mean row). Not covered: metrics of ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STEP = 1e-4
"""By how much of a mean row a sum is moved to see how the score follows."""


@dataclass(frozen=True)
class Metric:
    """One number that says how good a model is."""

    name: str
    heading: str
    """For people."""
    value: Callable[[Array], float] = field(repr=False)
    """(k,) sums of the rows' statistics -> score."""
    higher_is_better: bool = True
    ideal: float | None = 1.0
    """The best score there is; None where there is no best."""

    def of(self, rows: Array) -> float:
        """The score of a split, from its rows' (rows, k) statistics."""
        return self.value(rows.sum(0, dtype=np.float64))

    def values(self, rows: Array) -> Array:
        """(rows,) what each row is worth: their mean is the score, and their spread is what the choice of rows does.

        Of accuracy they are 0 and 1; of other metrics they are the pseudo-values of the infinitesimal jackknife
        (B. Efron, Biometrika 68, 1981).
        """
        rows = rows.astype(np.float64)
        sums, score = rows.sum(0), self.of(rows)
        varies = np.flatnonzero(rows.max(0) > rows.min(0))
        gradient = np.array([self._slope(sums, int(at), _STEP) for at in varies])
        moved: Array = (rows[:, varies] - rows[:, varies].mean(0)) @ gradient
        return score + len(rows) * moved

    def _slope(self, sums: Array, at: int, step: float) -> float:
        up, down = sums.copy(), sums.copy()
        up[at] += step
        down[at] -= step
        return (self.value(up) - self.value(down)) / (2 * step)


def standard_error(values: Array) -> float:
    """Of a score, from its rows' values: how far it would lie off on as many other rows, as a standard deviation."""
    return float(np.std(values) / np.sqrt(len(values)))


def _parts(sums: Array) -> tuple[float, Array, Array, Array]:
    """Rows, and by class true positives, false positives, false negatives."""
    true, false, missed = np.split(sums[1:], 3)
    return float(sums[0]), true, false, missed


def _accuracy(sums: Array) -> float:
    rows, true, _, _ = _parts(sums)
    return float(true.sum() / rows)


def _f1(true: Array, false: Array, missed: Array) -> Array:
    """By class; of a class that neither occurs nor is answered, 0 (scikit-learn's zero_division)."""
    seen = 2 * true + false + missed
    found: Array = np.divide(2 * true, seen, out=np.zeros_like(seen), where=seen > 0)
    return found


def _f1_macro(sums: Array) -> float:
    """The mean over classes that occur or are answered, as scikit-learn takes it."""
    _, true, false, missed = _parts(sums)
    here = 2 * true + false + missed > 0.5
    return float(_f1(true, false, missed)[here].mean())


def _f1_micro(sums: Array) -> float:
    _, true, false, missed = _parts(sums)
    return float(_f1(true.sum(keepdims=True), false.sum(keepdims=True), missed.sum(keepdims=True))[0])


def _f1_weighted(sums: Array) -> float:
    _, true, false, missed = _parts(sums)
    weights = true + missed
    return float(_f1(true, false, missed) @ weights / weights.sum())


def _matthews_correlation(sums: Array) -> float:
    """Gorodkin 2004, for any number of classes; 0 where either side knows one class only."""
    rows, true, false, missed = _parts(sums)
    labels, answers = true + missed, true + false
    product = (rows**2 - answers @ answers) * (rows**2 - labels @ labels)
    return float((true.sum() * rows - answers @ labels) / np.sqrt(product)) if product > 0 else 0.0


ACCURACY = Metric("accuracy", "accuracy", _accuracy)
F1_MACRO = Metric("f1_macro", "macro F1", _f1_macro)
F1_MICRO = Metric("f1_micro", "micro F1", _f1_micro)
F1_WEIGHTED = Metric("f1_weighted", "weighted F1", _f1_weighted)
MATTHEWS = Metric("matthews_correlation", "Matthews correlation", _matthews_correlation)
