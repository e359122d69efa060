"""Linear probes: the best linear map from frozen features to targets, fitted on standardised features."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

_Map = tuple[np.ndarray, np.ndarray]
PROBE_C = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""Inverse regularisations of the probe, on standardised features. The best is found on a fifth of the training rows."""

LEAST_SCALE = 0.01
"""Smallest scale of a feature, as a fraction of the median of all features' standard deviations."""


def fit_classes(head: nn.Linear, features: np.ndarray, labels: np.ndarray) -> None:
    """Sets the head to the best classifier: (items, width) features, (items,) classes.

    Classes that no item has are never answered; where all have one it is the answer to everything.
    """
    if len(seen := np.unique(labels)) < 2:
        _set(head, np.zeros(head.weight.shape), 10.0 * np.isin(np.arange(head.out_features), seen))
        return
    scaled, back = _standardised(features)
    probe = _logistic(best_regularisation(scaled, labels), scaled, labels)
    weight, bias = back(probe.coef_, probe.intercept_)
    if len(probe.classes_) == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    if len(probe.classes_) < head.out_features:
        seen = probe.classes_
        of_all, biases = np.zeros((head.out_features, weight.shape[1])), np.full(head.out_features, bias.min() - 10.0)
        of_all[seen], biases[seen] = weight, bias
        weight, bias = of_all, biases
    _set(head, weight, bias)


def fit_numbers(head: nn.Linear, features: np.ndarray, targets: np.ndarray) -> None:
    """Sets the head to the best ridge regression: (items, width) features, (items, outputs) numbers."""
    from sklearn.linear_model import Ridge

    scaled, back = _standardised(features)
    strengths = [len(features) * each for each in (10.0, 1.0, 0.1, 0.01, 0.001)]

    def fitted(strength: float, rows: Any) -> "Ridge":
        return Ridge(alpha=strength).fit(scaled[rows], targets[rows])

    def error(strength: float, train: np.ndarray, held: np.ndarray) -> float:
        return -float(np.square(fitted(strength, train).predict(scaled[held]) - targets[held]).mean())

    probe = fitted(_best(strengths, error, len(features)), slice(None))
    _set(head, *back(np.atleast_2d(probe.coef_), np.atleast_1d(probe.intercept_)))


def fit_each(head: nn.Linear, features: np.ndarray, targets: np.ndarray) -> None:
    """Sets the head to one probe for each of several classes: (items, width) features, (items, classes) 0 or 1."""
    scaled, back = _standardised(features)
    weights, biases = [], []
    for labels in targets.T.astype(np.int64):
        if len(np.unique(labels)) < 2:
            weights.append(np.zeros(features.shape[1]))
            biases.append(10.0 if labels.all() else -10.0)
            continue
        probe = _logistic(best_regularisation(scaled, labels), scaled, labels)
        weight, bias = back(probe.coef_, probe.intercept_)
        weights.append(weight[0])
        biases.append(float(bias[0]))
    _set(head, np.stack(weights), np.array(biases))


def _standardised(features: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray, np.ndarray], _Map]]:
    """The features in standard units, and what makes a map of these (weight, bias) one of the features."""
    mean, scale = features.mean(0), feature_scales(features)

    def back(weight: np.ndarray, bias: np.ndarray) -> _Map:
        return weight / scale, bias - (weight / scale) @ mean

    return (features - mean) / scale, back


def feature_scales(features: np.ndarray) -> np.ndarray:
    """(width,) what to divide features by: their standard deviations, none much smaller than the median.

    Backbones have dimensions that never vary but for rounding. Scaled up like the others they would get weights so huge
    that gradients through the head are useless.
    """
    deviations: np.ndarray = features.std(0, dtype=np.float64)
    usual = float(np.median(deviations))
    return np.maximum(deviations, LEAST_SCALE * usual) if usual else np.where(deviations > 0, deviations, 1.0)


def best_regularisation(scaled: np.ndarray, labels: np.ndarray) -> float:
    """The one of `PROBE_C` that does best on every fifth row, fitted on the others; the strongest of equally good ones.

    An overfitted probe is a weak baseline, and a head that starts from it is so sure that it teaches a method little.
    """

    def score(c: float, train: np.ndarray, held: np.ndarray) -> float:
        return float(_logistic(c, scaled[train], labels[train]).score(scaled[held], labels[held]))

    if len(np.unique(labels[~_held(len(labels))])) < 2:
        return PROBE_C[0]
    return _best(PROBE_C, score, len(labels))


def _held(rows: int) -> np.ndarray:
    """(rows,) every fifth row, at random."""
    held: np.ndarray = np.random.default_rng(0).permutation(rows) % 5 == 0
    return held


def _best(strengths: Sequence[float], score: Callable[[float, np.ndarray, np.ndarray], float], rows: int) -> float:
    """The strength that scores best on held rows; the first of equally good ones."""
    held = _held(rows)
    if not held.any() or held.all():
        return strengths[0]
    scores = {strength: score(strength, ~held, held) for strength in strengths}
    return max(strengths, key=lambda strength: (scores[strength], -strengths.index(strength)))


def _logistic(c: float, scaled: np.ndarray, labels: np.ndarray) -> "LogisticRegression":
    from sklearn.exceptions import ConvergenceWarning  # takes half a second, and workers never fit a probe
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # A probe that has not converged after so many steps is as good a baseline.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(scaled, labels)


def _set(head: nn.Linear, weight: np.ndarray, bias: np.ndarray) -> None:
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
