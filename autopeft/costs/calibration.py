"""One batch of a method's calibration, before it is trained, on real or fake tensors, watched by a meter.

Prediction and measurement run the same, as with a step. What is kept on the CPU meanwhile counts where training
is there. With one text at a time predictions are a little high: without padding, real attention may need no mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from autopeft.costs.step import Progress, Spent, metered
from autopeft.methods.base import Calibration
from autopeft.training.loss import mean_loss
from autopeft.training.model import TaskModel
from autopeft.trial import Costs


class CalibrationStep(nn.Module):
    """A batch of a calibration as a module, so that `functional_call` can run it on other tensors."""

    def __init__(
        self, model: TaskModel, calibration: Calibration, device: torch.device, layers: Sequence[nn.Module] = ()
    ) -> None:
        """`layers` are modules of the backbone whose work is to be told apart."""
        super().__init__()
        self.model = model
        self._calibration = calibration
        self._device = device
        self._layers = tuple(layers)

    def forward(self, tensors: Sequence[Tensor], batch: Mapping[str, Tensor]) -> Spent:
        """Calibrates on this batch, `tensors` in the place of those that losses are differentiated by.

        Operations are those of all of its batches.
        """
        meter = metered(self.model, batch, self._device)
        with Progress(meter, self._layers), meter:
            self._calibration.take(tensors, lambda: iter([partial(mean_loss, self.model, batch, self._device)]))
        batches = self._calibration.batches
        work = meter.work.times(batches)
        return Spent(meter.peak, meter.peak_by_part, meter.flops * batches, meter.peaks, work)


def costs_of_training(costs: Costs, calibrations: Sequence[Spent], *evaluations: Spent) -> Costs:
    """The costs of a step, of the calibrations before it and of the evaluations after it: the largest memory of all,
    and the operations of all calibrations.
    """
    costs = replace(costs, set_up_flops=sum(each.flops for each in calibrations))
    most = max([*calibrations, *evaluations], key=lambda each: each.memory, default=None)
    if most is None or most.memory <= costs.memory:
        return costs
    return replace(costs, memory=most.memory, memory_by_part=most.by_part)
