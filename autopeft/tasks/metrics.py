"""Metrics as functions of sums over rows, so that scores stream, merge, and have an error.

Each row of a split gives k numbers (its statistics): right or not, loss and tokens, true and false positives. A metric
is a smooth function of their sums. So an evaluation keeps no logits, the sums of two parts of a split add up to those
of the whole, and every score has a standard error by the delta method (to first order, what a row adds to the score is
the metric's gradient at the sums, times how far the row lies from the mean row). What is no function of sums, such as a
correlation of ranks, is a `WholeMetric`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from autopeft.errors import AutopeftError
from autopeft.trial import standard_error

Array = NDArray[np.float64]

MOST_SCORE = 1e30
"""A larger number is no score: what rows are worth is kept in fp32, and their squares are taken."""
_STEP = 1e-4
"""By how much of the largest row a sum is moved to see how the score follows."""
_GROUPS = 500
"""Groups of rows that are left out in turn, at most."""
_MOST_LOSS = 60.0
"""Of a token; its perplexity is still a score."""
_ROUNDING = 1e-12
"""A sum of squared deviations that is a smaller part of that of squares is none."""
_RESAMPLES = 200
"""Splits that a score is taken of again, for its error."""


class NoScore(AutopeftError):
    """A metric has no value for these answers."""


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

    of_answers: ClassVar[bool] = False
    """Whether it is no function of the head's statistics, but of what is expected of rows and what is answered."""
    of_texts: ClassVar[bool] = False
    """Whether it is one of texts that the model writes."""

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
        steps = _STEP * np.abs(rows).max(0)
        gradient = np.array([self._slope(sums, at, float(steps[at])) for at in varies.tolist()])
        moved: Array = (rows[:, varies] - rows[:, varies].mean(0)) @ gradient
        return score + len(rows) * moved

    def error(self, rows: Array) -> float:
        """The standard error of the score."""
        return standard_error(self.values(rows))

    def _slope(self, sums: Array, at: int, step: float) -> float:
        up, down = sums.copy(), sums.copy()
        up[at] += step
        down[at] -= step
        return (self.value(up) - self.value(down)) / (2 * step)


@dataclass(frozen=True)
class WholeMetric(Metric):
    """A score of all rows at once, which no sums of theirs tell: `value` takes their (rows, k) statistics.

    It is kept beside those that a search is judged by: it neither streams nor merges, and each error takes the score of
    many splits.
    """

    def of(self, rows: Array) -> float:
        return self.value(rows.astype(np.float64))

    def values(self, rows: Array) -> Array:
        """(rows,) by the jackknife: how the score moves without a row; of many, without its group of rows."""
        rows = rows.astype(np.float64)
        groups = np.arange(len(rows)) % min(len(rows), _GROUPS)
        sizes = np.bincount(groups)
        score = self.value(rows)
        without = np.array([self.value(rows[groups != each]) for each in range(len(sizes))])
        # So many rows share a movement that it is smaller than one row's by the root of their number.
        moved: Array = ((score - without) * (len(rows) - sizes) / np.sqrt(sizes))[groups]
        values: Array = score + moved - moved.mean()
        return values

    def error(self, rows: Array) -> float:
        """By bootstrap, always of the same draws (B. Efron, Annals of Statistics 7, 1979)."""
        random, rows = np.random.default_rng(0), rows.astype(np.float64)
        drawn = [self.value(rows[random.integers(0, len(rows), len(rows))]) for _ in range(_RESAMPLES)]
        return float(np.std(drawn))


def _parts(sums: Array) -> tuple[float, Array, Array, Array]:
    """Rows, and by class true positives, false positives, false negatives."""
    true, false, missed = np.split(sums[1 : 1 + (len(sums) - 1) // 3 * 3], 3)
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


def _f1_macro_of_all(sums: Array) -> float:
    """The mean over all classes, as scikit-learn takes it where a row may have several."""
    _, true, false, missed = _parts(sums)
    return float(_f1(true, false, missed).mean())


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


def _share(part: float, whole: float) -> float:
    """0 where there is nothing to have a share of, as seqeval takes it."""
    return float(part / whole) if whole > 0 else 0.0


def _entity_precision(sums: Array) -> float:
    true, false, *_ = sums
    return _share(true, true + false)


def _entity_recall(sums: Array) -> float:
    true, _, missed, *_ = sums
    return _share(true, true + missed)


def _entity_f1(sums: Array) -> float:
    true, false, missed, *_ = sums
    return _share(2 * true, 2 * true + false + missed)


def _token_accuracy(sums: Array) -> float:
    *_, tokens, right = sums
    return _share(right, tokens)


def _loss(sums: Array) -> float:
    *_, losses, tokens, _ = sums
    return float(losses / tokens) if tokens > 0 else 0.0


def _perplexity(sums: Array) -> float:
    return float(np.exp(min(_loss(sums), _MOST_LOSS)))


def _spread(squares: float, total: float, rows: float) -> float:
    """The sum of squared deviations from the mean; 0 where it is no more than rounding."""
    spread = squares - total**2 / rows
    return spread if spread > _ROUNDING * squares else 0.0


def _pearson(sums: Array) -> float:
    """0 where either side is constant."""
    rows, answers, truths, answers_squared, truths_squared, products, _, _ = map(float, sums)
    scale = _spread(answers_squared, answers, rows) * _spread(truths_squared, truths, rows)
    return (products - answers * truths / rows) / scale**0.5 if scale else 0.0


def _r2(sums: Array) -> float:
    """Of a constant truth, 1 for an answer without fault, else 0 (scikit-learn's force_finite)."""
    spread, wrong = _spread(float(sums[4]), float(sums[2]), float(sums[0])), float(sums[6])
    return 1 - wrong / spread if spread else float(wrong == 0)


def _rmse(sums: Array) -> float:
    return float(np.sqrt(sums[6] / sums[0]))


def _mae(sums: Array) -> float:
    return float(sums[7] / sums[0])


def _spearman(rows: Array) -> float:
    """Pearson's correlation of ranks, equal values at their mean rank; 0 where either side is constant."""
    from scipy.stats import rankdata  # takes half a second, and reports of other metrics need none

    answers, truths = rankdata(rows[:, 1:3], axis=0).T
    answers, truths = answers - answers.mean(), truths - truths.mean()
    scale = (answers @ answers) * (truths @ truths)
    return float(answers @ truths / np.sqrt(scale)) if scale else 0.0


ACCURACY = Metric("accuracy", "accuracy", _accuracy)
F1_MACRO = Metric("f1_macro", "macro F1", _f1_macro)
F1_MICRO = Metric("f1_micro", "micro F1", _f1_micro)
F1_WEIGHTED = Metric("f1_weighted", "weighted F1", _f1_weighted)
F1_MACRO_OF_ALL = Metric("f1_macro", "macro F1", _f1_macro_of_all)
SUBSET_ACCURACY = Metric("subset_accuracy", "subset accuracy", lambda sums: float(sums[-1] / sums[0]))
MATTHEWS = Metric("matthews_correlation", "Matthews correlation", _matthews_correlation)
ENTITY_F1 = Metric("f1", "entity F1", _entity_f1)
ENTITY_PRECISION = Metric("precision", "entity precision", _entity_precision)
ENTITY_RECALL = Metric("recall", "entity recall", _entity_recall)
TOKEN_ACCURACY = Metric("accuracy", "token accuracy", _token_accuracy)
LOSS = Metric("loss", "loss per token", _loss, higher_is_better=False, ideal=0.0)
PERPLEXITY = Metric("perplexity", "perplexity", _perplexity, higher_is_better=False, ideal=None)
PEARSON = Metric("pearson", "Pearson correlation", _pearson)
RMSE = Metric("rmse", "root mean squared error", _rmse, higher_is_better=False, ideal=0.0)
MAE = Metric("mae", "mean absolute error", _mae, higher_is_better=False, ideal=0.0)
R2 = Metric("r2", "R²", _r2)
SPEARMAN = WholeMetric("spearman", "Spearman correlation", _spearman)
