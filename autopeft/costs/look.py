"""One batch of a method's look at training data, before it is trained, on real or fake tensors, watched by a meter.

Prediction and measurement run the same, as with a step. What a look keeps on the CPU counts where training is there.
Looks at one text at a time are predicted a little high: without padding, real attention may need no mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from autopeft.costs.step import Progress, Reading, metered
from autopeft.methods.base import Look
from autopeft.training.loss import mean_loss
from autopeft.training.model import TaskModel
from autopeft.trial import Costs


class LookStep(nn.Module):
    """A batch of a look as a module, so that `functional_call` can run it on other tensors."""

    def __init__(self, model: TaskModel, look: Look, device: torch.device, layers: Sequence[nn.Module] = ()) -> None:
        """`layers` are modules of the backbone whose work the reading is to tell apart."""
        super().__init__()
        self.model = model
        self._look = look
        self._device = device
        self._layers = tuple(layers)

    def forward(self, tensors: Sequence[Tensor], batch: Mapping[str, Tensor]) -> Reading:
        """Looks at this batch, `tensors` in the place of those that the look differentiates by.

        Operations are those of all of its batches.
        """
        meter = metered(self.model, batch, self._device)
        with Progress(meter, self._layers), meter:
            self._look.take(tensors, lambda: iter([partial(mean_loss, self.model, batch, self._device)]))
        return Reading(meter.peak, meter.peak_by_part, meter.flops * self._look.batches, meter.peaks)


def with_looks(costs: Costs, looks: Sequence[Reading], evaluation: Reading | None = None) -> Costs:
    """The costs of a step, of the looks before it and of the evaluation after it: the largest memory of all, and the
    operations of all looks.
    """
    costs = replace(costs, set_up_flops=sum(look.flops for look in looks))
    most = max([*looks, *([evaluation] if evaluation else [])], key=lambda look: look.memory, default=None)
    if most is None or most.memory <= costs.memory:
        return costs
    return replace(costs, memory=most.memory, memory_by_part=most.by_part)
