"""Text classification: a linear head on pooled features, cross-entropy, accuracy."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from autopeft.tasks.base import Task

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

PROBE_C = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""Inverse regularisations of the probe, on standardised features. The best is found on a fifth of the training rows."""

LEAST_SCALE = 0.01
"""Smallest scale of a feature, as a fraction of the median of all features' standard deviations."""


class TextClassification(Task):
    """Single texts or pairs into two or more classes."""

    name = "text-classification"

    def new_head(self, width: int) -> nn.Linear:
        return nn.Linear(width, len(self.labels))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels)

    def metric(self, logits: Tensor, labels: Tensor) -> float:
        return self.right(logits, labels).double().mean().item()

    def right(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.argmax(-1) == labels

    def majority(self, train: np.ndarray, validation: np.ndarray) -> float:
        return float(np.mean(validation == np.bincount(train).argmax()))

    def fit_head(self, head: nn.Module, features: np.ndarray, labels: np.ndarray) -> None:
        assert isinstance(head, nn.Linear)
        mean, scale = features.mean(0), feature_scales(features)
        scaled = (features - mean) / scale
        probe = _probe(best_regularisation(scaled, labels), scaled, labels)
        weight = probe.coef_ / scale
        bias = probe.intercept_ - weight @ mean
        if len(self.labels) == 2:
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weight))
            head.bias.copy_(torch.from_numpy(bias))


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
    held = np.random.default_rng(0).permutation(len(labels)) % 5 == 0
    if len(np.unique(labels[~held])) < 2 or not held.any():
        return PROBE_C[0]
    scores = {c: _probe(c, scaled[~held], labels[~held]).score(scaled[held], labels[held]) for c in PROBE_C}
    return max(PROBE_C, key=lambda c: (scores[c], -c))


def _probe(c: float, scaled: np.ndarray, labels: np.ndarray) -> "LogisticRegression":
    from sklearn.exceptions import ConvergenceWarning  # takes half a second, and workers never fit a probe
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # A probe that has not converged after so many steps is as good a baseline.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(scaled, labels)
