"""What a training has to go through: rows, in batches that are shorter than the longest one. Pure."""

import math
from functools import cached_property
from typing import Self

import numpy as np

from autopeft.data.store import Dataset, padded
from autopeft.space.candidate import Training
from autopeft.training.batches import batches, by_length, evaluated_at_once
from autopeft.training.loop import RUNGS, rung_steps, steps_of


class Load:
    """The lengths of training and validation rows, and what follows from them."""

    def __init__(self, train: np.ndarray, validation: np.ndarray, most: int | None = None) -> None:
        """(rows,) entries of each row; no batch is padded beyond `most`."""
        self._train = train
        self._validation = validation
        self._most = max(most or 0, int(train.max()), int(validation.max()))
        self._shares: dict[int, float] = {}
        self._evaluations: dict[int, tuple[int, int]] = {}

    @classmethod
    def of(cls, train: Dataset, validation: Dataset) -> Self:
        """Of the splits of a search."""
        return cls(train.lengths, validation.lengths, train.longest)

    @property
    def rows(self) -> int:
        """To train on."""
        return len(self._train)

    @cached_property
    def longest(self) -> tuple[int, int]:
        """Entries of the longest batch of a training, and of the longest of a training or an evaluation."""
        train, validation = (self._padded(int(lengths.max())) for lengths in (self._train, self._validation))
        return train, max(train, validation)

    def steps_of_epoch(self, training: Training) -> int:
        return math.ceil(self.rows / training.batch_size)

    def rungs(self, training: Training) -> tuple[int, ...]:
        """Steps after which a whole training is judged; the last of them is its end."""
        return rung_steps(steps_of(training, self.rows), RUNGS)

    def share(self, batch_size: int) -> float:
        """How many entries a batch has, as a share of those that all of them would have if all rows were longest."""
        size = min(batch_size, self.rows)
        if size not in self._shares:
            cut = batches(self._train, size, np.random.default_rng(0))
            entries = sum(len(rows) * self._padded(int(self._train[rows].max())) for rows in cut)
            self._shares[size] = entries / (len(cut) * size * self.longest[0])
        return self._shares[size]

    def evaluated(self, training: Training) -> tuple[int, int]:
        """Batches of an evaluation, and their entries."""
        at_once = evaluated_at_once(training, self._train)
        if at_once not in self._evaluations:
            cut = by_length(self._validation, at_once)
            entries = sum(len(rows) * self._padded(int(self._validation[rows].max())) for rows in cut)
            self._evaluations[at_once] = len(cut), entries
        return self._evaluations[at_once]

    def _padded(self, length: int) -> int:
        return min(padded(max(length, 1)), self._most)
