"""How long inference takes with a candidate's methods, beside the bare backbone in the same run: one batch, or one new
token of a text that a language model writes.

What merges into the weights takes no time, and is left off; the rest is attached with fresh values, which compute the
same. Computed is in the precision of training. Not covered: batches, and backbones that are compiled or exported first.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from autopeft.backbone.load import Backbone
from autopeft.backbone.sites import Sites
from autopeft.methods.attached import attach
from autopeft.methods.passes import evaluating
from autopeft.methods.registry import Configured
from autopeft.training.generation import PROMPT, Writer, writer
from autopeft.training.model import States, TaskModel
from autopeft.training.precision import forward

_REPEATS = 5
_TOKENS = 10
"""That are written, and timed, after two that are not."""


@dataclass(frozen=True)
class Latency:
    """Median seconds for one batch, or one token."""

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


def latency_of_writing(backbone: Backbone, remaining: Sequence[Configured], prompt: Sequence[int]) -> Latency | None:
    """Times each token that a language model which carries nothing writes after a prompt, with the methods that do not
    merge; it is as before afterwards. None where such methods let no text be written.
    """
    if any(PROMPT in part.method.lacks for part in remaining):
        return None
    model: Any = backbone.model
    bare = _per_token(writer(backbone, ()), prompt)
    if not remaining:
        return Latency(median(bare), median(bare))
    with attach(model, remaining, backbone.sites) as attached:
        attached.settle()
        with_methods = _per_token(writer(backbone, (), attached), prompt)
    bare += _per_token(writer(backbone, ()), prompt)
    return Latency(median(with_methods), median(bare))


def _per_token(write: Writer, prompt: Sequence[int]) -> list[float]:
    """Seconds of each token after the first two, which come with the prompt."""
    device, moments = next(write.whole.parameters()).device, list[float]()

    def note() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()
        moments.append(time.perf_counter())

    longest = write.longest
    room = len(prompt) if longest is None else max(longest - _TOKENS - 2, 1)
    replace(write, ends=frozenset(), ask=note)([list(prompt)[-room:]], _TOKENS + 2)
    return [after - before for before, after in pairwise(moments[1:])]


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
