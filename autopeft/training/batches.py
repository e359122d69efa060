"""Batches of rows of similar length, so that little is padding. Seeded."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from autopeft.backbone.pixels import augmented
from autopeft.data.states import ROWS
from autopeft.data.store import PIXELS, padded
from autopeft.space.candidate import Training

MOST_TOKENS = 16_384
"""Padded tokens of one batch of an evaluation, at most, where nothing else limits them."""
MEGA = 50
"""Examples are sorted by length within shuffled groups of this many batches."""


def batches(lengths: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """One epoch: every example once, in batches of `size` (the last of a group may be smaller), in random order."""
    order = rng.permutation(len(lengths))
    groups = [order[start : start + MEGA * size] for start in range(0, len(order), MEGA * size)]
    cut = []
    for group in groups:
        by_length = group[np.argsort(lengths[group], kind="stable")]
        cut += [by_length[start : start + size] for start in range(0, len(by_length), size)]
    return [cut[index] for index in rng.permutation(len(cut))]


def by_length(lengths: np.ndarray, tokens: int = MOST_TOKENS, most: int = 256) -> list[np.ndarray]:
    """Batches for evaluation: sorted by length, each of at most `tokens` padded tokens and `most` examples, but one."""
    order = np.argsort(lengths, kind="stable")[::-1]
    cut, start = [], 0
    while start < len(order):
        size = int(np.clip(tokens // padded(max(int(lengths[order[start]]), 1)), 1, most))
        cut.append(order[start : start + size])
        start += size
    return cut


def evaluated_at_once(training: Training, lengths: np.ndarray) -> int:
    """Padded tokens of one batch of an evaluation: those of a micro-batch of the longest of these training rows, so
    that an evaluation keeps the limit of memory that its training keeps.
    """
    return training.at_once * padded(int(lengths.max()))


def varied(batch: Mapping[str, Tensor], training: Training) -> Mapping[str, Tensor]:
    """A batch of the training, its images changed by torch's random numbers as the training asks for; nothing is drawn
    where there is nothing to change.
    """
    if PIXELS not in batch:
        return batch
    return {**batch, PIXELS: augmented(batch[PIXELS], flip=training.flip, shift=training.shift)}


def on_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A batch where it is computed; the numbers of its rows stay, for who keeps them would wait for the device."""
    return {name: each if name == ROWS else each.to(device, non_blocking=True) for name, each in batch.items()}


def cut(batch: Mapping[str, Tensor], size: int | None) -> list[Mapping[str, Tensor]]:
    """A batch in pieces of at most `size` rows, for gradient accumulation."""
    rows = len(next(iter(batch.values())))
    if size is None or size >= rows:
        return [batch]
    return [{name: t[start : start + size] for name, t in batch.items()} for start in range(0, rows, size)]
