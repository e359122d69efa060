"""Text classification: a linear head on pooled features, cross-entropy, accuracy."""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from autopeft.tasks.base import Task

PROBE_C = 1.0
"""Inverse regularisation of the probe, on standardised features; fixed, so that nothing is tuned on validation data."""


class TextClassification(Task):
    """Single texts or pairs into two or more classes."""

    name = "text-classification"

    def new_head(self, width: int) -> nn.Linear:
        return nn.Linear(width, len(self.labels))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels)

    def metric(self, logits: Tensor, labels: Tensor) -> float:
        return (logits.argmax(-1) == labels).double().mean().item()

    def majority(self, train: np.ndarray, validation: np.ndarray) -> float:
        return float(np.mean(validation == np.bincount(train).argmax()))

    def fit_head(self, head: nn.Module, features: np.ndarray, labels: np.ndarray) -> None:
        assert isinstance(head, nn.Linear)
        scaler = StandardScaler().fit(features)
        probe = LogisticRegression(C=PROBE_C, max_iter=300, tol=1e-3)
        with warnings.catch_warnings():
            # A probe that has not converged after so many steps is as good a baseline.
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(scaler.transform(features), labels)
        weight, bias = probe.coef_ / scaler.scale_, probe.intercept_
        bias = bias - weight @ scaler.mean_
        if len(self.labels) == 2:
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weight))
            head.bias.copy_(torch.from_numpy(bias))
