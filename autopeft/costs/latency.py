"""How long inference takes with a candidate's methods, beside the bare backbone in the same run.

What merges into the weights takes no time, and is left off; the rest is attached with fresh values, which compute the
same. Computed is in the precision of training. Not covered: batches, and backbones that are compiled or exported first.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from autopeft.backbone.sites import Sites
from autopeft.methods.attached import attach
from autopeft.methods.passes import evaluating
from autopeft.methods.registry import Configured
from autopeft.training.model import States, TaskModel
from autopeft.training.precision import forward

_REPEATS = 5


@dataclass(frozen=True)
class Latency:
    """Median seconds for one batch."""

    with_methods: float
    bare: float


def measure_latency(
    model: nn.Module, sites: Sites, remaining: Sequence[Configured], inputs: Mapping[str, Tensor]
) -> Latency:
    """Times a model that carries nothing, with the methods that do not merge; it is as before afterwards.

    The backbone is timed before the methods and after them, so that a machine that slows down favours neither.
    """
    bare = _timed(TaskModel(model, States()), inputs)
    if not remaining:
        return Latency(median(bare), median(bare))
    with attach(model, remaining, sites) as attached:
        attached.settle()
        with_methods = _timed(TaskModel(model, States(), attached), inputs)
    bare += _timed(TaskModel(model, States()), inputs)
    return Latency(median(with_methods), median(bare))


@torch.inference_mode()
def _timed(features: TaskModel, inputs: Mapping[str, Tensor]) -> list[float]:
    """Seconds of each of several passes, after one that is not counted."""
    device = next(iter(inputs.values())).device
    seconds = []
    with evaluating(features):
        for _ in range(1 + _REPEATS):
            began = time.perf_counter()
            forward(features, inputs, device)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
    return seconds[1:]
