"""How good a model is on a split. Nothing is kept of a batch but what its rows add to the metrics."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autopeft.data.store import LABELS, Dataset
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.methods.passes import evaluating
from autopeft.space.candidate import Training
from autopeft.tasks.base import Task
from autopeft.tasks.heads import Batch
from autopeft.tasks.metrics import MOST_SCORE, Array, Metric, NoScore
from autopeft.tasks.own import shown
from autopeft.training.batches import MOST_TOKENS, by_length, on_device
from autopeft.training.model import TaskModel
from autopeft.training.precision import autocast, forward
from autopeft.trial import Answers

Counted = Callable[[Tensor, Batch], Array]
"""What a metric needs of each row of an output: rows first."""
_ROWS = 256


@dataclass(frozen=True)
class Evaluation:
    """A model on a split."""

    loss: float
    """Mean over what is to be learned."""
    statistics: Array
    """(rows, k) in the order of the split; metrics are functions of their sums."""
    judged: Array
    """What the metric needs of the rows: their statistics, as a rule."""


def evaluate(
    model: TaskModel,
    data: Dataset,
    device: torch.device,
    tokens: int = MOST_TOKENS,
    answered: Counted | None = None,
) -> Evaluation:
    """The task's statistics of every row, and the mean loss; the model's mode is as before afterwards.

    `tokens` is how many padded ones a batch may have; `answered` gives what the metric needs, where that is something
    else than statistics.
    """
    found: list[Array] = []
    needed: list[Array] = []
    order: list[np.ndarray] = []
    loss, count = 0.0, 0
    for rows, batch, output in outputs(model, data, device, tokens=tokens):
        with autocast(device):
            of_batch, statistics = model.head.evaluated(output, batch)
        loss, count = loss + of_batch, count + int(model.head.count(batch))
        found.append(checked(statistics, batch, model.head))
        needed.append(counted(answered, output, batch) if answered else found[-1])
        order.append(rows)
    back = np.argsort(np.concatenate(order))
    statistics, judged = (np.concatenate(each)[back] for each in (found, needed))
    return Evaluation(loss / max(count, 1), statistics, judged)


def counted(count: Counted, output: Tensor, batch: Batch) -> Array:
    """What is counted of each row of an output. Raises AutopeftError where that is not something for each."""
    return checked(count(output, batch), batch, getattr(count, "__self__", count))


def checked(found: Any, batch: Batch, head: object) -> Array:
    """The same, counted already by `head`. Raises AutopeftError."""
    rows = len(batch[LABELS])
    shape = found.shape if isinstance(found, np.ndarray) else None
    if shape is None or len(shape) != 2 or shape[0] != rows:
        raise AutopeftError(
            f"the statistics of '{shown(type(head))}' must be an array with one row of numbers for each of {rows:,} "
            f"rows, not {brief(found) if shape is None else f'one of shape {shape}'}."
        )
    seen: Array = found
    return seen


def judged(metric: Metric, rows: Array) -> Answers:
    """The score of a split, and what each row is worth, of what the metric needs of the rows. Raises NoScore."""
    score = metric.of(rows)
    if not isinstance(score, Real) or not abs(score) <= MOST_SCORE:
        raise NoScore(f"the metric '{metric.name}' gives {brief(score)}, which is no score.")
    return Answers.of(score, metric.values(rows))


def constant_statistics(
    task: Task, train: Dataset, validation: Dataset, width: int, answered: Counted | None = None
) -> Array:
    """What a metric needs of the best answer that is the same for all, row by row."""
    head, best = task.new_head(width, Training()), task.best_constant(train)
    found = []
    for start in range(0, len(validation), _ROWS):
        batch = validation.batch(np.arange(start, min(start + _ROWS, len(validation))))
        found.append(counted(answered or head.statistics, head.constant(best, batch), batch))
    return np.concatenate(found)


@torch.inference_mode()
def outputs(
    model: TaskModel,
    data: Dataset,
    device: torch.device,
    rows: np.ndarray | None = None,
    tokens: int = MOST_TOKENS,
) -> Iterator[tuple[np.ndarray, Batch, Tensor]]:
    """Batch by batch: which rows of the split, the batch on the device, and what the model puts out, in eval mode."""
    chosen = np.arange(len(data)) if rows is None else rows
    with evaluating(model):
        for places in by_length(data.lengths[chosen], tokens):
            indices = chosen[places]
            batch = on_device(data.batch(indices), device)
            yield indices, batch, forward(model, batch, device)
