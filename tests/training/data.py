"""A small learnable split for training tests: the class of a row is whether its tokens come from the upper half."""

import numpy as np

from autopeft.data.store import Padding, Tokenized
from autopeft.tasks.classification import TextClassification
from tests.tiny import VOCABULARY

TASK = TextClassification(["low", "high"])


def split(rows: int = 48, seed: int = 0, longest: int = 14) -> Tokenized:
    """Rows of 3 to `longest` tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, rows)
    labels = rng.permutation(np.arange(rows) % 2)
    middle = VOCABULARY // 2
    tokens = [rng.integers(5, middle, n) + label * (middle - 5) for n, label in zip(lengths, labels, strict=True)]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Tokenized(np.concatenate(tokens).astype(np.int32), None, offsets, labels, Padding(0, 64))
