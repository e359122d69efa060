"""A small learnable split for training tests: the class of a row is whether its tokens come from the upper half."""

import numpy as np

from autopeft.data.store import Column, Dataset
from autopeft.tasks.text_classification import TextClassification
from tests.tiny import VOCABULARY

TASK = TextClassification(("text",), ("low", "high"))


def split(rows: int = 48, seed: int = 0, longest: int = 14) -> Dataset:
    """Rows of 3 to `longest` tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, rows)
    labels = rng.permutation(np.arange(rows) % 2)
    middle = VOCABULARY // 2
    tokens = [rng.integers(5, middle, n) + label * (middle - 5) for n, label in zip(lengths, labels, strict=True)]
    return Dataset({"input_ids": Column.ragged(tokens, np.int32), "labels": Column(labels)}, 64)
