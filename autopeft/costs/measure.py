"""What a candidate costs, read off one real training step that leaves everything as it was, and off the
calibrations before it.

On a CPU the meter says how many bytes were alive; on CUDA the allocator says it, and the meter only how they were used.
Not covered: other batches than that of the longest rows, which is the most expensive one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from autopeft.costs.calibration import CalibrationStep
from autopeft.costs.evaluating import EvaluationStep
from autopeft.costs.meter import TEMPORARY, Meter
from autopeft.costs.step import Spent, Step
from autopeft.costs.writing import Writing, WritingStep
from autopeft.data.store import Dataset
from autopeft.methods.passes import evaluating
from autopeft.space.candidate import Candidate, Training
from autopeft.tasks.texts import IDS
from autopeft.training.batches import by_length
from autopeft.training.model import TaskModel
from autopeft.training.precision import forward
from autopeft.trial import Costs

Examples = Callable[[int], Mapping[str, Tensor]]
"""Number of rows -> a batch of so many."""


def measure(model: TaskModel, data: Dataset, candidate: Candidate, device: torch.device) -> Costs:
    """The costs of one training step on the longest micro-batch of `data`."""
    return measure_batch(model, longest(data)(candidate.training.at_once), candidate.training, device)


def longest(data: Dataset) -> Examples:
    """The longest rows of a split: the most expensive ones."""
    order = np.argsort(data.lengths, kind="stable")[::-1]
    return lambda rows: data.batch(order[:rows])


def measure_calibrations(model: TaskModel, examples: Examples, device: torch.device) -> tuple[Spent, ...]:
    """The calibrations of methods, one after the other, each read off one batch.

    Modes and random state are as before. Methods must be set up afterwards, also where they have been before.
    """
    all_spent = []
    with evaluating(model), torch.random.fork_rng():
        model.train()
        for part in model.methods.parts:
            with part.calibrating() as calibration:
                if calibration is not None:
                    step = CalibrationStep(model, calibration, device)
                    all_spent.append(_read(step, calibration.tensors, examples(calibration.batch_size), device))
    return tuple(all_spent)


def measure_evaluation(model: TaskModel, batch: Mapping[str, Tensor], device: torch.device) -> Spent:
    """What an evaluation shows on this batch; modes are as before."""
    with evaluating(model):
        return _read(EvaluationStep(model, device), (), batch, device)


def measure_writing(model: TaskModel, writing: Writing, tokens: int, device: torch.device) -> Spent:
    """What writing texts of this length shows, where so many padded tokens are read at once; modes are as before."""
    ids = torch.zeros(writing.rows(tokens), writing.prompt, dtype=torch.long)
    with evaluating(model):
        return _read(WritingStep(model, writing, device), (), {IDS: ids}, device)


def longest_evaluated(data: Dataset, tokens: int) -> Mapping[str, Tensor]:
    """The largest batch of an evaluation that takes so many padded tokens at a time."""
    return data.batch(max(by_length(data.lengths, tokens), key=lambda rows: len(rows) * int(data.lengths[rows].max())))


def measure_batch(model: TaskModel, batch: Mapping[str, Tensor], training: Training, device: torch.device) -> Costs:
    """The costs of one training step on this micro-batch; tensors, gradients, modes and random state are as before."""
    attached = model.methods
    step = Step(model, training, device)
    trained = [*attached.parameters(), *model.head.parameters()]
    with _undone(step, trained), torch.random.fork_rng():
        spent = _read(step, trained, batch, device)
    return Costs(attached.count, spent.memory, attached.stored, spent.flops, spent.by_part)


def measure_inference(model: TaskModel, batch: Mapping[str, Tensor]) -> int:
    """Floating-point operations of a model on this batch; modes are as before."""
    with evaluating(model), torch.no_grad(), Meter() as meter:
        forward(model, batch, next(iter(batch.values())).device)
    flops: int = meter.flops
    return flops


def _read(step: nn.Module, tensors: Sequence[Tensor], batch: Mapping[str, Tensor], device: torch.device) -> Spent:
    on_device = {name: tensor.to(device) for name, tensor in batch.items()}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    spent: Spent = step(tensors, on_device)
    if device.type == "cuda":
        spent = _of_allocator(spent, torch.cuda.max_memory_allocated(device))
    return spent


def _of_allocator(spent: Spent, peak: int) -> Spent:
    """The allocator's peak; what the meter does not know of it is temporary."""
    by_part = dict(spent.by_part)
    by_part[TEMPORARY] += peak - spent.memory
    return replace(spent, memory=peak, by_part=by_part)


@contextmanager
def _undone(step: Step, trained: Sequence[Tensor]) -> Iterator[None]:
    """Puts values back from copies on the CPU: even at learning rate 0 a gradient that is not finite spoils them."""
    values = [tensor.detach().to("cpu", copy=True) for tensor in trained]
    gradients = [tensor.grad for tensor in trained]
    modes = [(module, module.training) for module in step.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value, gradient in zip(trained, values, gradients, strict=True):
                tensor.copy_(value)
                tensor.grad = gradient
        for module, training in modes:
            module.training = training
