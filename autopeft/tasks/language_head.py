"""A language model's head: the model's own output embedding, by which the loss of a few tokens at a time is computed.

Logits of all tokens of a batch would take more memory than all else: 8 x 512 tokens of a vocabulary of 128,256 are
2 GiB in fp32, and several of that size are alive at once. So only states of supervised positions are projected (a
prompt's are not), a fixed number at a time, and their logits are gone before the next are made (as in torchtune's and
Liger's linear cross-entropy). Where gradients are wanted, those of the states are made with the loss, so that nothing
is projected twice; they take as much memory as the states themselves. On a GPU Liger's kernel does the same, where it
is installed.

Has no weights of its own, so nothing of it is trained but what is the backbone's: a tied embedding.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

from autopeft.backbone.output import OutputEmbedding
from autopeft.data.store import LABELS, MASK
from autopeft.tasks import liger
from autopeft.tasks.heads import NO_LABEL, Batch, Head, kullback_leibler
from autopeft.tasks.metrics import Array

CHUNK = 512
"""Positions whose logits are alive at once."""


class LanguageModelHead(Head):
    """The next token at each supervised position. Statistics are what `metrics.LOSS` and its kin sum: the negative
    log-likelihood, tokens, and right ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lent: tuple[OutputEmbedding, ...] = ()

    @property
    def embedding(self) -> OutputEmbedding:
        """What was borrowed. No module of the head, because it is not the head's to train or to save."""
        (embedding,) = self._lent
        return embedding

    def borrow(self, output: nn.Module) -> None:
        assert isinstance(output, OutputEmbedding)
        self._lent = (output,)

    def forward(self, states: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        """The states themselves: logits of all would be too many."""
        return states

    def features(self, states: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError("a head without weights of its own is fitted to nothing")

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        labels, seen = _targets(output, batch)
        return linear_cross_entropy(output[:, :-1][seen], labels[seen], self.embedding)

    def count(self, batch: Batch) -> Tensor:
        return (batch[LABELS][:, 1:] != NO_LABEL).sum().clamp(min=1)

    def statistics(self, output: Tensor, batch: Batch) -> Array:
        return self.evaluated(output, batch)[1]

    @torch.no_grad()
    def evaluated(self, output: Tensor, batch: Batch) -> tuple[float, Array]:
        labels, seen = _targets(output, batch)
        weight, states = _as_computed(self.embedding, output[:, :-1][seen])
        found = [self._look(weight, *each) for each in _chunks(states, labels[seen])]
        sums = np.zeros((len(output), 3))
        np.add.at(sums, seen.nonzero()[:, 0].cpu().numpy(), np.concatenate([np.empty((0, 3)), *found]))
        return float(sums[:, 0].sum()), sums

    def _look(self, weight: Tensor, states: Tensor, targets: Tensor) -> Array:
        """(positions, 3) the loss of each target, 1, and whether it is the likeliest token."""
        logits = _logits(states, weight, self.embedding)
        right = logits.argmax(-1) == targets
        losses, _ = _losses(logits, targets)
        seen: Array = torch.stack([losses, torch.ones_like(losses), right.float()], dim=1).double().cpu().numpy()
        return seen

    def divergence(self, one: Tensor, other: Tensor, batch: Batch) -> Tensor:
        _, seen = _targets(one, batch)

        def apart(some: Tensor, others: Tensor) -> Tensor:
            return kullback_leibler(self.embedding(some), self.embedding(others))

        total = one.new_zeros((), dtype=torch.float32)
        for pieces in _chunks(one[:, :-1][seen], other[:, :-1][seen]):
            total = total + checkpoint(apart, *pieces, use_reentrant=False)
        return total

    def told(self, output: Tensor, batch: Batch) -> Tensor:
        """(rows, vocabulary) logits of the token that comes after each row."""
        last = self.last(output, batch)
        logits: Tensor = self.embedding(output[torch.arange(len(output), device=output.device), last])
        return logits

    def last(self, output: Tensor, batch: Batch) -> Tensor:
        """(rows,) where the last state of each row is."""
        return batch[MASK][:, : output.shape[1]].sum(1) - 1


class CrossedHead(LanguageModelHead):
    """The same of a decoder that begins with a token of its own, before those that are to be learned."""

    def last(self, output: Tensor, batch: Batch) -> Tensor:
        return (batch[LABELS][:, 1 : output.shape[1]] != NO_LABEL).sum(1)


def linear_cross_entropy(states: Tensor, targets: Tensor, embedding: OutputEmbedding) -> Tensor:
    """The sum of cross-entropies of (positions,) targets by (positions, width) states, and their gradients with it."""
    if liger.may_take(states, embedding):
        weight, computed = _as_computed(embedding, states)
        return liger.linear_cross_entropy(computed, targets, weight, embedding.bias, embedding.cap)
    wanted = torch.is_grad_enabled()
    loss: Tensor = _LinearCrossEntropy.apply(states, embedding.weight, embedding.bias, targets, embedding, wanted)  # type: ignore[no-untyped-call]
    return loss


class _LinearCrossEntropy(Function):
    """Gradients of a sum are made with it, and multiplied by what comes back."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        embedding: OutputEmbedding,
        wanted: bool,
    ) -> Tensor:
        needs = [wanted and need for need in ctx.needs_input_grad[:3]]
        of_states, of_weight, of_bias = (
            torch.zeros_like(each) if each is not None and need else None
            for each, need in zip((states, weight, bias), needs, strict=True)
        )
        held, computed = _as_computed(embedding, states)

        def taken(start: int, some: Tensor, goals: Tensor) -> Tensor:
            """The loss of some positions, their gradients added: in a function, which lets go of all logits."""
            logits = _logits(some, held, embedding)
            bent = None if embedding.cap is None else 1 - (logits / embedding.cap).square_()
            losses, slopes = _losses(logits, goals)
            if any(needs):
                slopes = _slopes(slopes, goals, embedding.scale, bent)
                lower = slopes.to(held.dtype)
                if of_states is not None:
                    of_states[start : start + len(some)] = lower @ held
                if of_weight is not None:
                    of_weight.add_(lower.T @ some)
                if of_bias is not None:
                    of_bias.add_(slopes.sum(0))
            return losses.sum()

        losses = [taken(CHUNK * number, *each) for number, each in enumerate(_chunks(computed, targets))]
        ctx.gradients = of_states, of_weight, of_bias
        return torch.stack(losses).sum() if losses else states.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *given: Any) -> Any:
        (factor,) = given
        gradients = [None if each is None else each.mul_(factor.to(each.dtype)) for each in ctx.gradients]
        del ctx.gradients
        return *gradients, None, None, None


def _as_computed(embedding: OutputEmbedding, states: Tensor) -> tuple[Tensor, Tensor]:
    """The embedding's weight and states in the precision that they are multiplied in."""
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else embedding.weight.dtype
    return embedding.weight.to(dtype), states.to(dtype)


def _logits(states: Tensor, weight: Tensor, embedding: OutputEmbedding) -> Tensor:
    """The same logits as the embedding's, in fp32, in the place of one another."""
    logits = (states @ weight.T).float()
    if embedding.bias is not None:
        logits += embedding.bias
    if embedding.scale != 1.0:
        logits *= embedding.scale
    return logits if embedding.cap is None else logits.div_(embedding.cap).tanh_().mul_(embedding.cap)


def _losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(positions,) cross-entropies, and probabilities in the place of the logits."""
    goals = logits.gather(-1, targets.unsqueeze(-1))
    most = logits.amax(-1, keepdim=True)
    weights = logits.sub_(most).exp_()
    sums = weights.sum(-1, keepdim=True)
    return (sums.log() + most - goals).squeeze(-1), weights.div_(sums)


def _slopes(probabilities: Tensor, targets: Tensor, scale: float, bent: Tensor | None) -> Tensor:
    """How losses move with what the weight gives, in the place of the probabilities; `bent` is the slope of a cap."""
    places = targets.unsqueeze(-1)
    slopes = probabilities.scatter_add_(-1, places, -torch.ones_like(places, dtype=probabilities.dtype))
    if bent is not None:
        slopes *= bent
    return slopes if scale == 1.0 else slopes.mul_(scale)


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of as many positions as logits are made of at once."""
    for start in range(0, len(tensors[0]), CHUNK):
        yield tuple(each[start : start + CHUNK] for each in tensors)


def _targets(states: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """(rows, length - 1) of each position but the last the token that comes after it, and whether it is to be learned;
    states may have been cut, because the model has no more positions.
    """
    labels = batch[LABELS][:, 1 : states.shape[1]]
    return labels, labels != NO_LABEL
