"""Trains one candidate: a generator that yields a rung whenever one is reached.

Closing the generator early (early stopping) undoes what it switched on. Numbers repeat exactly on a CPU for the same
seed and number of threads. Not covered: several devices for one trial.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from autopeft.data.store import Tokenized
from autopeft.methods.attached import Attached
from autopeft.space.candidate import Candidate
from autopeft.tasks.base import Task
from autopeft.training.batches import batches, by_length, cut
from autopeft.training.checkpointing import checkpointing
from autopeft.training.model import Classifier
from autopeft.training.optimizer import learning_rate_factor, new_optimizer, parameter_groups
from autopeft.training.precision import forward
from autopeft.trial import Answers, Rung

RUNGS = (1 / 9, 1 / 3, 1.0)
_LOOK_EVERY = 10
"""Steps between looks at the loss: each look waits for the device."""


@dataclass
class Pace:
    """How fast a training went: its steps alone, without evaluation."""

    steps: int = 0
    examples: int = 0
    seconds: float = 0.0


class TrainingFailed(Exception):
    """Training cannot go on; the text says at which step and why."""


def train(
    classifier: Classifier,
    attached: Attached,
    task: Task,
    data: Tokenized,
    validation: Tokenized,
    candidate: Candidate,
    *,
    seed: int,
    device: torch.device,
    rungs: Sequence[float] = RUNGS,
    pace: Pace | None = None,
) -> Iterator[Rung]:
    """Trains to the candidate's end; yields a Rung at each fraction of the steps, and keeps `pace` until then.

    Raises TrainingFailed.
    """
    pace = pace or Pace()
    training = candidate.training
    per_epoch = math.ceil(len(data) / training.batch_size)
    steps = max(1, training.least_steps, round(training.epochs * per_epoch))
    stops = rung_steps(steps, rungs)
    optimizer = new_optimizer(parameter_groups(attached, classifier.head, candidate))
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    peaks = [group["lr"] for group in optimizer.param_groups]
    seconds, began = 0.0, time.perf_counter()
    total, since = torch.zeros((), device=device), 0
    with checkpointing(classifier.model, training.gradient_checkpointing), seeded(seed), _training(classifier):
        for step, indices in enumerate(_endless(data.lengths, training.batch_size, seed)):
            factor = learning_rate_factor(step, steps, training.warmup)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            total += _step(classifier, attached, task, data, indices, training.micro_batch_size, device)
            since += 1
            pace.steps += 1
            pace.examples += len(indices)
            torch.nn.utils.clip_grad_norm_(tensors, training.clip)
            optimizer.step()
            attached.stepped(step + 1, steps)
            optimizer.zero_grad(set_to_none=True)
            at_rung = step + 1 in stops
            if (at_rung or step % _LOOK_EVERY == 0) and not torch.isfinite(total):
                raise TrainingFailed(_diverged(step + 1, steps, candidate))
            if at_rung:
                pace.seconds += time.perf_counter() - began
                score, loss = evaluate(classifier, task, validation, device)
                if not math.isfinite(loss):
                    raise TrainingFailed(_diverged(step + 1, steps, candidate))
                seconds += time.perf_counter() - began
                error = math.sqrt(max(score * (1 - score), 0.0) / len(validation))
                yield Rung(step + 1, steps, score, error, total.item() / since, seconds)
                began = time.perf_counter()
                total, since = torch.zeros((), device=device), 0
            if step + 1 == steps:
                return


def _step(
    classifier: Classifier,
    attached: Attached,
    task: Task,
    data: Tokenized,
    indices: np.ndarray,
    micro: int | None,
    device: torch.device,
) -> torch.Tensor:
    """One forward and backward pass of a batch, in pieces where asked; returns its mean loss."""
    labels = torch.from_numpy(data.labels[indices])
    total = torch.zeros((), device=device)
    for inputs, targets in cut(data.batch(indices), labels, micro):
        on_device = {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
        share = len(targets) / len(indices)
        again = partial(forward, classifier, on_device, device)
        logits = again()
        loss = task.loss(logits, targets.to(device, non_blocking=True))
        extra = attached.extra_loss(logits, again)
        if extra is not None:
            loss = loss + extra
        (loss * share).backward()  # type: ignore[no-untyped-call]
        total += loss.detach() * share
    return total


def set_up(
    classifier: Classifier, attached: Attached, task: Task, data: Tokenized, *, seed: int, device: torch.device
) -> None:
    """Lets the attached methods look at training data before they are trained; no gradients are left behind."""

    def losses(examples: int, batch_size: int) -> Iterator[Callable[[], torch.Tensor]]:
        chosen = np.random.default_rng(seed).permutation(len(data))[:examples]
        for start in range(0, len(chosen), batch_size):
            yield partial(_loss, chosen[start : start + batch_size])

    def _loss(indices: np.ndarray) -> torch.Tensor:
        inputs = {name: tensor.to(device) for name, tensor in data.batch(indices).items()}
        return task.loss(forward(classifier, inputs, device), torch.from_numpy(data.labels[indices]).to(device))

    with seeded(seed), _training(classifier):
        attached.set_up(losses)
    for parameter in classifier.parameters():
        parameter.grad = None


def evaluate(classifier: Classifier, task: Task, data: Tokenized, device: torch.device) -> tuple[float, float]:
    """The task's metric and mean loss on a split; the classifier's mode is as before afterwards."""
    logits, order = _predicted(classifier, data, device)
    labels = torch.from_numpy(data.labels[order]).to(device)
    return task.metric(logits, labels), task.loss(logits, labels).item()


def answers(classifier: Classifier, task: Task, data: Tokenized, device: torch.device) -> Answers:
    """How the classifier does on every row of a split; its mode is as before afterwards."""
    logits, order = _predicted(classifier, data, device)
    labels = torch.from_numpy(data.labels[order]).to(device)
    right = np.empty(len(data))
    right[order] = task.right(logits, labels).cpu().numpy()
    return Answers.of(task.metric(logits, labels), right)


@torch.inference_mode()
def _predicted(classifier: Classifier, data: Tokenized, device: torch.device) -> tuple[torch.Tensor, np.ndarray]:
    """(rows, classes) logits, and which rows of the split they belong to."""
    with _evaluating(classifier):
        logits, order = [], []
        for indices in by_length(data.lengths):
            batch = {name: tensor.to(device) for name, tensor in data.batch(indices).items()}
            logits.append(forward(classifier, batch, device))
            order.append(indices)
        return torch.cat(logits), np.concatenate(order)


def _diverged(step: int, steps: int, candidate: Candidate) -> str:
    rates = ", ".join(f"{part.method} {part.learning_rate:.2g}" for part in candidate.parts)
    return f"the loss was no longer finite at step {step} of {steps} (learning rates: {rates})."


def rung_steps(steps: int, fractions: Sequence[float]) -> tuple[int, ...]:
    """The steps after which rungs lie: distinct, at least 1, the last is `steps`."""
    return tuple(sorted({min(steps, max(1, round(fraction * steps))) for fraction in (*fractions, 1.0)}))


def _endless(lengths: np.ndarray, size: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    while True:
        yield from batches(lengths, size, rng)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers from this seed on; the caller's go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _training(classifier: Classifier) -> Iterator[None]:
    classifier.train()
    try:
        yield
    finally:
        classifier.eval()


@contextmanager
def _evaluating(classifier: Classifier) -> Iterator[None]:
    before = classifier.training
    classifier.eval()
    try:
        yield
    finally:
        classifier.train(before)
