"""One training step as training takes it, on real or fake tensors, watched by a meter.

Both prediction and measurement run this step, so that they differ in nothing but the tensors. It is a step of the
steady state: the optimizer's moments are there before it begins, and gradients too where they are accumulated over
several micro-batches. A simulated step also tells which layer is at work, so that it can stand for a deeper model's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from autopeft.costs.meter import ACTIVATIONS, GRADIENTS, OPTIMIZER, WEIGHTS, Meter
from autopeft.costs.work import Work
from autopeft.space.candidate import Training
from autopeft.training.checkpointing import checkpointing
from autopeft.training.loss import loss_of
from autopeft.training.model import TaskModel
from autopeft.training.optimizer import new_optimizer

Phase = tuple[str, int, int]
"""What happens, in which forward pass from 1 (0: in none), and in which layer (-1: in none)."""
BEFORE: Phase = ("before", 0, -1)
AFTER: Phase = ("after", 0, -1)
FORWARD, BACKWARD = IN_LAYERS = ("forward", "backward")
"""What happens in layers."""


@dataclass(frozen=True)
class Spent:
    """What the meter said of a step."""

    memory: int
    """Peak bytes alive."""
    by_part: Mapping[str, int]
    """`memory` split by what it was used for at that moment."""
    flops: int
    phases: Mapping[Any, Mapping[str, int]]
    """The same split at the worst moment of each phase, a `Phase`."""
    work: Work
    """Of a whole batch; of a calibration all of it."""


def metered(model: TaskModel, batch: Mapping[str, Tensor], device: torch.device) -> Meter:
    """A meter that knows what is there before anything is done with a batch."""
    meter = Meter(device)
    meter.enter(BEFORE)
    meter.register([*model.parameters(), *model.buffers()], WEIGHTS)
    meter.register(batch.values(), ACTIVATIONS)
    meter.of_rows(batch.values())
    return meter


class Step(nn.Module):
    """A training step as a module, so that `functional_call` can run it, backward pass included, on other tensors."""

    def __init__(
        self,
        model: TaskModel,
        training: Training,
        device: torch.device,
        layers: Sequence[nn.Module] = (),
    ) -> None:
        """`layers` are modules of the backbone whose work is to be told apart."""
        super().__init__()
        self.model = model
        self._training = training
        self._device = device
        self._layers = tuple(layers)

    def forward(self, trained: Sequence[Tensor], batch: Mapping[str, Tensor]) -> Spent:
        """Trains `trained` once on a micro-batch; their gradients are None afterwards."""
        training = self._training
        optimizer = new_optimizer([{"params": list(trained), "lr": 0.0, "weight_decay": 0.0}])
        for tensor in trained:
            tensor.grad = torch.zeros_like(tensor)
        optimizer.step()
        accumulates = training.at_once < training.batch_size
        if not accumulates:
            optimizer.zero_grad(set_to_none=True)
        meter = metered(self.model, batch, self._device)
        meter.register((value for state in optimizer.state.values() for value in state.values()), OPTIMIZER)
        meter.register((tensor.grad for tensor in trained if tensor.grad is not None), GRADIENTS)
        meter.watch_gradients(trained)
        share = training.at_once / training.batch_size
        self.model.train()
        progress = Progress(meter, self._layers)
        with checkpointing(self.model.model, training.gradient_checkpointing), progress, meter:
            loss = loss_of(self.model, batch, self._device, self.model.head.count(batch))
            progress.turns_back()
            (loss * share).backward()  # type: ignore[no-untyped-call]
            meter.enter(AFTER)
            of_rows = meter.work
            torch.nn.utils.clip_grad_norm_(trained, training.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        flops = round(meter.flops / share)
        work = of_rows.times(1 / share) + (meter.work - of_rows)
        return Spent(meter.peak, meter.peak_by_part, flops, meter.peaks, work)


class Progress:
    """Tells a meter when each layer begins, in every forward pass and on the way back."""

    def __init__(self, meter: Meter, layers: Sequence[nn.Module]) -> None:
        self._meter = meter
        self._layers = layers
        self._pass = 0
        self._back = False
        self._handles: list[RemovableHandle] = []

    def turns_back(self) -> None:
        """The forward passes are over: layers that run again do so for checkpointing."""
        self._back = True

    def __enter__(self) -> None:
        for number, layer in enumerate(self._layers):
            self._handles.append(layer.register_forward_pre_hook(partial(self._begins, number)))
            self._handles.append(layer.register_forward_hook(partial(self._ends, number)))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _begins(self, number: int, *_: Any) -> None:
        if not self._back:
            self._pass += number == 0
            self._meter.enter((FORWARD, self._pass, number))

    def _ends(self, number: int, _: nn.Module, __: Any, output: Any) -> None:
        if self._back:
            return
        states = output[0] if isinstance(output, tuple) else output
        if states.requires_grad:
            states.register_hook(partial(self._comes_back, self._pass, number))
        if number + 1 == len(self._layers):
            self._meter.enter(("head", self._pass, -1))

    def _comes_back(self, number_of_pass: int, number: int, _: Tensor) -> None:
        self._meter.enter((BACKWARD, number_of_pass, number))
