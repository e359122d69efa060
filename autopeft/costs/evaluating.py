"""One batch of an evaluation, on real or fake tensors, watched by a meter: it counts in peak memory as a step does.

Batches of an evaluation hold as many padded tokens as a micro-batch of the training, so that it keeps the limit that
the training keeps.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from autopeft.costs.step import Progress, Spent, metered
from autopeft.training.model import TaskModel
from autopeft.training.precision import autocast, forward


class EvaluationStep(nn.Module):
    """A batch of an evaluation as a module, so that `functional_call` can run it on other tensors."""

    def __init__(self, model: TaskModel, device: torch.device, layers: Sequence[nn.Module] = ()) -> None:
        """`layers` are modules of the backbone whose work is to be told apart."""
        super().__init__()
        self.model = model
        self._device = device
        self._layers = tuple(layers)

    def forward(self, _: Sequence[Tensor], batch: Mapping[str, Tensor]) -> Spent:
        """Runs the batch, in eval mode and without gradients."""
        self.model.eval()
        meter = metered(self.model, batch, self._device)
        with torch.no_grad(), Progress(meter, self._layers), meter:
            output = forward(self.model, batch, self._device)
            with autocast(self._device):
                self.model.head.loss(output, batch)
        return Spent(meter.peak, meter.peak_by_part, meter.flops, meter.peaks, meter.work)
