"""The loss of a batch, or of a piece of one, so that pieces add up to the batch exactly as they should."""

from functools import partial

import torch
from torch import Tensor

from autopeft.tasks.heads import Batch
from autopeft.training.model import TaskModel
from autopeft.training.precision import autocast, forward


def loss_of(model: TaskModel, piece: Batch, device: torch.device, count: int | Tensor) -> Tensor:
    """What a piece adds to the mean loss of a batch in which so much is to be learned, with what its methods add."""
    again = partial(forward, model, piece, device)
    output = again()
    here = model.head.count(piece)
    with autocast(device):
        loss: Tensor = model.head.loss(output, piece) / count

    def divergence(one: Tensor, other: Tensor) -> Tensor:
        with autocast(device):
            apart: Tensor = model.head.divergence(one, other, piece) / here
        return apart

    extra = model.methods.extra_loss(output, again, divergence)
    return loss if extra is None else loss + extra * (here / count)


def mean_loss(model: TaskModel, batch: Batch, device: torch.device) -> Tensor:
    """The loss alone, on average over what is to be learned."""
    output = forward(model, batch, device)
    with autocast(device):
        loss: Tensor = model.head.loss(output, batch) / model.head.count(batch)
    return loss
