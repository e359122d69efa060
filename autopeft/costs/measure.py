"""What a candidate costs, read off one real training step that leaves everything as it was, and off what its methods
look at before.

On a CPU the meter says how many bytes were alive; on CUDA the allocator says it, and the meter only how they were used.
Not covered: other batches than that of the longest texts, which is the most expensive one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from autopeft.costs.look import LookStep
from autopeft.costs.meter import TEMPORARY, Meter
from autopeft.costs.predict import stored
from autopeft.costs.step import Reading, Step, micro_batch_size
from autopeft.data.store import Tokenized
from autopeft.methods.attached import Attached
from autopeft.methods.passes import evaluating
from autopeft.space.candidate import Candidate, Training
from autopeft.tasks.base import Task
from autopeft.training.model import Carrier, Classifier
from autopeft.trial import Costs

Texts = Callable[[int], tuple[Mapping[str, Tensor], Tensor]]
"""Number of texts -> inputs and labels of so many."""


def measure(
    classifier: Classifier, attached: Attached, task: Task, data: Tokenized, candidate: Candidate, device: torch.device
) -> Costs:
    """The costs of one training step on the longest micro-batch of `data`."""
    inputs, labels = longest(data)(micro_batch_size(candidate.training))
    return measure_batch(classifier, attached, task, inputs, labels, candidate.training, device)


def longest(data: Tokenized) -> Texts:
    """The longest texts of a split: the most expensive ones."""
    order = np.argsort(data.lengths, kind="stable")[::-1]
    return lambda rows: (data.batch(order[:rows]), torch.from_numpy(data.labels[order[:rows]]))


def measure_looks(
    classifier: Classifier, attached: Attached, task: Task, texts: Texts, device: torch.device
) -> tuple[Reading, ...]:
    """What methods look at before they are trained, one after the other, each read off one batch.

    Modes and random state are as before. Methods must be set up afterwards, also where they have been before.
    """
    readings = []
    with evaluating(classifier), torch.random.fork_rng():
        classifier.train()
        for part in attached.parts:
            with part.looking() as look:
                if look is not None:
                    step = LookStep(classifier, look, task, device)
                    readings.append(_read(step, look.tensors, *texts(look.batch_size), device))
    return tuple(readings)


def measure_batch(
    classifier: Classifier,
    attached: Attached,
    task: Task,
    inputs: Mapping[str, Tensor],
    labels: Tensor,
    training: Training,
    device: torch.device,
) -> Costs:
    """The costs of one training step on this micro-batch; tensors, gradients, modes and random state are as before."""
    step = Step(classifier, attached.extra_loss, task, training, device)
    trained = [*attached.parameters(), *classifier.head.parameters()]
    with _undone(step, trained), torch.random.fork_rng():
        reading = _read(step, trained, inputs, labels, device)
    return Costs(attached.count, reading.memory, stored(attached), reading.flops, reading.by_part)


def measure_inference(carrier: Carrier, inputs: Mapping[str, Tensor]) -> int:
    """Floating-point operations of the model on these inputs, without a head; modes are as before."""
    features = Classifier(carrier, nn.Identity(), Training.pooling)
    with evaluating(features), torch.no_grad(), Meter() as meter:
        features(inputs)
    flops: int = meter.flops
    return flops


def _read(
    step: nn.Module, tensors: Sequence[Tensor], inputs: Mapping[str, Tensor], labels: Tensor, device: torch.device
) -> Reading:
    on_device = {name: tensor.to(device) for name, tensor in inputs.items()}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    reading: Reading = step(tensors, on_device, labels.to(device))
    if device.type == "cuda":
        reading = _of_allocator(reading, torch.cuda.max_memory_allocated(device))
    return reading


def _of_allocator(reading: Reading, peak: int) -> Reading:
    """The allocator's peak; what the meter does not know of it is temporary."""
    by_part = dict(reading.by_part)
    by_part[TEMPORARY] += peak - reading.memory
    return replace(reading, memory=peak, by_part=by_part)


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
