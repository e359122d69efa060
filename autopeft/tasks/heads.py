"""What turns a model's states into an output, a loss, and the statistics that metrics are made of."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from autopeft.data.store import LABELS, MASK
from autopeft.errors import unknown
from autopeft.tasks.metrics import Array
from autopeft.tasks.tags import entities

Batch = Mapping[str, Tensor]
NO_LABEL = -100
"""The label of a place that nothing is learned of, as PyTorch has it."""
POOLINGS = ("mean", "first", "last")


class Head(nn.Module, ABC):
    """A task's head. A loss is a sum, and a count of what is to be learned, so that pieces of a batch add up to it."""

    @abstractmethod
    def forward(self, states: Tensor, batch: Batch) -> Tensor:
        """(rows, length, width) states -> the output, rows first."""

    def borrow(self, output: nn.Module) -> None:
        """Hears of the model's own output embedding, where the model comes with it: it is used, and not the head's."""

    @abstractmethod
    def features(self, states: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(items, width) frozen features in fp32, (items, …) their targets and (items,) their rows, for a probe."""

    @abstractmethod
    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """The sum of the losses of all that is to be learned."""

    def count(self, batch: Batch) -> int | Tensor:
        """How much is to be learned: one thing in each row."""
        return len(batch[LABELS])

    @abstractmethod
    def statistics(self, output: Tensor, batch: Batch) -> Array:
        """(rows, k) all that the task's metrics need of each row; may be called on any device."""

    def evaluated(self, output: Tensor, batch: Batch) -> tuple[float, Array]:
        """The sum of losses as a number, and the statistics: what an evaluation asks of each batch."""
        return float(self.loss(output, batch)), self.statistics(output, batch)

    def told(self, output: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        """Of the output what people are given of each row: all of it, as a rule."""
        return output

    @abstractmethod
    def divergence(self, one: Tensor, other: Tensor, batch: Batch) -> Tensor:
        """How far the outputs of two passes lie apart, summed over all that is to be learned."""

    def constant(self, answer: Tensor, batch: Batch) -> Tensor:
        """The output that always gives one answer (outputs,)."""
        return answer.expand(len(batch[LABELS]), -1)


class LinearHead(nn.Linear, Head):
    """A linear map of pooled states."""

    def __init__(self, width: int, outputs: int, pooling: str = "mean") -> None:
        if pooling not in POOLINGS:
            raise unknown("pooling", pooling, POOLINGS)
        super().__init__(width, outputs)
        self.pooling = pooling

    def forward(self, states: Tensor, batch: Batch) -> Tensor:  # type: ignore[override]
        return super().forward(self._pooled(states, batch))

    def features(self, states: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        pooled, labels = self._pooled(states, batch), batch[LABELS]
        return pooled, labels, torch.arange(len(labels))

    def _pooled(self, states: Tensor, batch: Batch) -> Tensor:
        return pool(states, batch.get(MASK), self.pooling)


class ClassificationHead(LinearHead):
    """One of several classes for each row: cross-entropy. Statistics are what `metrics.ACCURACY` and its kin sum."""

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return functional.cross_entropy(output, batch[LABELS], reduction="sum")

    def statistics(self, output: Tensor, batch: Batch) -> Array:
        one = np.eye(output.shape[-1])
        answers, labels = one[output.argmax(-1).cpu().numpy()], one[batch[LABELS].cpu().numpy()]
        return _counted(answers, labels)

    def divergence(self, one: Tensor, other: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        return kullback_leibler(one, other)


class TokenHead(nn.Linear, Head):
    """One tag for each token that has a label. Statistics are what `metrics.ENTITY_F1` and its kin sum: entities found
    rightly, wrongly and not, and tokens, all and right ones.
    """

    def __init__(self, width: int, tags: Sequence[str]) -> None:
        super().__init__(width, len(tags))
        self.tags = tuple(tags)

    def forward(self, states: Tensor, batch: Batch) -> Tensor:  # type: ignore[override]  # noqa: ARG002
        """(rows, length, tags), also of padding."""
        return super().forward(states.float())

    def features(self, states: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        labels = _labels(states, batch)
        seen = labels != NO_LABEL
        return states[seen].float(), labels[seen], seen.nonzero()[:, 0]

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        labels = _labels(output, batch)
        return functional.cross_entropy(output.flatten(0, 1), labels.flatten(), ignore_index=NO_LABEL, reduction="sum")

    def count(self, batch: Batch) -> Tensor:
        return (batch[LABELS] != NO_LABEL).sum().clamp(min=1)

    def statistics(self, output: Tensor, batch: Batch) -> Array:
        answers, labels = output.argmax(-1).cpu().numpy(), _labels(output, batch).cpu().numpy()
        return np.stack([self._of_row(*each) for each in zip(answers, labels, strict=True)])

    def _of_row(self, answers: Array, labels: Array) -> Array:
        seen = labels != NO_LABEL
        found, there = ({*entities([self.tags[tag] for tag in row[seen]])} for row in (answers, labels))
        right = len(found & there)
        same = np.count_nonzero(answers[seen] == labels[seen])
        return np.array([right, len(found) - right, len(there) - right, seen.sum(), same], dtype=np.float64)

    def divergence(self, one: Tensor, other: Tensor, batch: Batch) -> Tensor:
        unseen = (_labels(one, batch) == NO_LABEL).unsqueeze(-1)
        return kullback_leibler(one.masked_fill(unseen, 0.0), other.masked_fill(unseen, 0.0))

    def constant(self, answer: Tensor, batch: Batch) -> Tensor:
        return answer.expand(*batch[LABELS].shape, -1)


def _labels(states: Tensor, batch: Batch) -> Tensor:
    """(rows, length) labels of states that may have been cut, because the model has no more positions."""
    return batch[LABELS][:, : states.shape[1]]


class MultiLabelHead(LinearHead):
    """Any number of classes for each row, those whose logit is above 0: binary cross-entropy, summed over classes.

    Statistics are those of `ClassificationHead`, and whether the whole row is right.
    """

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return functional.binary_cross_entropy_with_logits(output, batch[LABELS].to(output.dtype), reduction="sum")

    def statistics(self, output: Tensor, batch: Batch) -> Array:
        answers, labels = ((each > 0).cpu().double().numpy() for each in (output, batch[LABELS]))
        return np.concatenate([_counted(answers, labels), (answers == labels).all(1, keepdims=True)], axis=1)

    def divergence(self, one: Tensor, other: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        # A logit and 0 are the logits of a class and of its absence.
        return kullback_leibler(*(torch.stack([each, torch.zeros_like(each)], dim=-1) for each in (one, other)))


class RegressionHead(LinearHead):
    """A standardised number for each row: squared error. Statistics are what `metrics.PEARSON` and its kin sum, in the
    data's unit, of which a deviation has `scale`.
    """

    def __init__(self, width: int, scale: float, pooling: str = "mean") -> None:
        super().__init__(width, 1, pooling)
        self.scale = scale

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return functional.mse_loss(output, batch[LABELS], reduction="sum")

    def statistics(self, output: Tensor, batch: Batch) -> Array:
        answers, truths = (each[:, 0].cpu().double().numpy() * self.scale for each in (output, batch[LABELS]))
        wrong = answers - truths
        squares = (answers**2, truths**2, answers * truths, wrong**2)
        return np.stack([np.ones_like(wrong), answers, truths, *squares, np.abs(wrong)], axis=1)

    def divergence(self, one: Tensor, other: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        """Kullback and Leibler's, of normal distributions of deviation 1."""
        return (one - other).square().sum() / 2


def _counted(answers: Array, labels: Array) -> Array:
    """(rows, 1 + 3 classes) of 0 and 1 for each class: rows, true positives, false positives, false negatives."""
    right = answers * labels
    return np.concatenate([np.ones((len(labels), 1)), right, answers - right, labels - right], axis=1)


def kullback_leibler(one: Tensor, other: Tensor) -> Tensor:
    """Of the distributions that logits (…, classes) stand for, from the other to the one, summed over all."""
    return functional.kl_div(one.log_softmax(-1), other.log_softmax(-1), log_target=True, reduction="sum")


def pool(states: Tensor, mask: Tensor | None, pooling: str) -> Tensor:
    """(rows, length, width) states of real places -> (rows, width) in fp32; padding may be on either side.

    Without a mask all places are real; one may be longer than the states, which were cut then.
    """
    states = states.float()
    if mask is None:
        mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
    mask = mask[:, : states.shape[1]]
    if pooling == "mean":
        real = mask.unsqueeze(-1) != 0
        return states.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)
    rows = torch.arange(mask.shape[0], device=mask.device)
    if pooling == "first":
        return states[rows, mask.int().argmax(1)]
    return states[rows, mask.shape[1] - 1 - mask.flip(1).int().argmax(1)]
