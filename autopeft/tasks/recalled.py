"""Answers by how often they occurred in training: the baseline of the most frequent answer, for a loss.

An answer that is always the same has no loss that is finite. What has one is a distribution over answers: those of
training as often as they occurred there, and the backbone's own for what is new, with as many counts as there were
different answers (method C of T. Bell, J. Cleary and I. Witten, Text Compression, 1990): of N answers, T of them
different, an answer that occurred c times has the probability (c + T q) / (N + T), where the backbone gives it q.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from autopeft.data.store import Column
from autopeft.tasks.heads import NO_LABEL
from autopeft.tasks.metrics import Array


def recalled(train: Column, validation: Column, alone: Array) -> Array:
    """(rows, 3) losses, tokens and right ones of validation labels, of the (rows, 3) that the backbone alone has; right
    tokens are not told.
    """
    seen = Counter(_answers(train))
    total, different = sum(seen.values()), len(seen)
    counts = np.array([seen[answer] for answer in _answers(validation)], dtype=np.float64)
    with np.errstate(divide="ignore"):
        likelihood = np.logaddexp(np.log(counts), np.log(different) - alone[:, 0])
    return np.stack([np.log(total + different) - likelihood, alone[:, 1], np.zeros(len(alone))], axis=1)


def _answers(labels: Column) -> Iterator[bytes]:
    """What is judged of each row."""
    for row in range(len(labels)):
        judged = np.asarray(labels[row][1:])
        yield judged[judged != NO_LABEL].tobytes()
