"""What a candidate costs, read off one real training step that leaves everything as it was.

On a CPU the meter says how many bytes were alive; on CUDA the allocator says it, and the meter only how they were used.
Not covered: other batches than that of the longest texts, which is the most expensive one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from autopeft.costs.meter import TEMPORARY, Meter
from autopeft.costs.predict import stored
from autopeft.costs.step import Reading, Step, micro_batch_size
from autopeft.methods.attached import Attached
from autopeft.methods.passes import evaluating
from autopeft.space.candidate import Candidate, Training
from autopeft.tasks.base import Task
from autopeft.tasks.classifier import Carrier, Classifier
from autopeft.tasks.tokenized import Tokenized
from autopeft.trial import Costs


def measure(
    classifier: Classifier, attached: Attached, task: Task, data: Tokenized, candidate: Candidate, device: torch.device
) -> Costs:
    """The costs of one training step on the longest micro-batch of `data`."""
    longest = np.argsort(data.lengths, kind="stable")[::-1][: micro_batch_size(candidate.training)]
    labels = torch.from_numpy(data.labels[longest])
    return measure_batch(classifier, attached, task, data.batch(longest), labels, candidate.training, device)


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
    on_device = {name: tensor.to(device) for name, tensor in inputs.items()}
    with _undone(step, trained), torch.random.fork_rng():
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        reading = step(trained, on_device, labels.to(device))
        if device.type == "cuda":
            reading = _of_allocator(reading, torch.cuda.max_memory_allocated(device))
    return Costs(attached.count, reading.memory, stored(attached), reading.flops, reading.by_part)


def measure_inference(carrier: Carrier, inputs: Mapping[str, Tensor]) -> int:
    """Floating-point operations of the model on these inputs, without a head; modes are as before."""
    features = Classifier(carrier, nn.Identity(), Training.pooling)
    with evaluating(features), torch.no_grad(), Meter() as meter:
        features(inputs)
    flops: int = meter.flops
    return flops


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
