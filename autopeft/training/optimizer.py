"""AdamW over the trained tensors only: each method at its own learning rate, the head at its own; linear warm-up, and
decay as its training says.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from autopeft.methods.attached import Attached
from autopeft.space.candidate import Candidate, Training

_FALLS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda left: left,
    "cosine": lambda left: (1 - math.cos(math.pi * left)) / 2,
}
"""Of the peak learning rate, by the share of the falling steps that is left."""


def parameter_groups(attached: Attached, head: nn.Module, candidate: Candidate) -> list[dict[str, Any]]:
    """Groups of tensors that share learning rate and weight decay; the head is not decayed."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for each in attached.tensors():
        part = candidate.parts[each.part]
        decay = part.weight_decay if each.decay else 0.0
        groups.setdefault((part.learning_rate, decay), []).append(each.tensor)
    groups.setdefault((candidate.training.head_learning_rate, 0.0), []).extend(head.parameters())
    return [{"params": tensors, "lr": rate, "weight_decay": decay} for (rate, decay), tensors in groups.items()]


def new_optimizer(groups: list[dict[str, Any]]) -> torch.optim.AdamW:
    """Fused, which on CPU and CUDA is one pass over each tensor."""
    return torch.optim.AdamW(groups, fused=True)


def learning_rate_factor(step: int, steps: int, training: Training) -> float:
    """Of the peak learning rate at step 0 … steps - 1: up linearly in the first `warmup` fraction, then down to 0 at
    the end, linearly or as half a period of a cosine does.
    """
    rising = round(training.warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return _FALLS[training.schedule]((steps - step) / max(1, steps - rising))
