"""Trains one candidate: a generator that yields a rung whenever one is reached.

Closing the generator early (early stopping) undoes what it switched on. Numbers repeat exactly on a CPU for the same
seed and number of threads, also where a training goes on from the state of one of its rungs. Not covered: several
devices for one trial.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch

from autopeft.data.store import Dataset
from autopeft.space.candidate import Candidate, Training
from autopeft.tasks.heads import Batch
from autopeft.tasks.metrics import Array, Metric
from autopeft.training.batches import batches, cut, evaluated_at_once, on_device, varied
from autopeft.training.checkpointing import checkpointing
from autopeft.training.evaluation import Counted, evaluate, judged
from autopeft.training.loss import loss_of, mean_loss
from autopeft.training.model import TaskModel
from autopeft.training.optimizer import learning_rate_factor, new_optimizer, parameter_groups
from autopeft.training.precision import precision_of, scaler_of
from autopeft.training.state import State, draw_on_from, random_numbers
from autopeft.trial import Answers, Rung

Judging = Callable[[TaskModel, bool], Array]
"""(model, whether the training ends here) -> what the metric needs of rows that it chooses."""
RUNGS = (1 / 9, 1 / 3, 1.0)
_LOOK_EVERY = 10
"""Steps between looks at the loss: each look waits for the device."""


@dataclass
class Pace:
    """How fast a training went: its steps alone, without evaluation."""

    steps: int = 0
    examples: int = 0
    seconds: float = 0.0
    answers: Answers | None = None
    """At the last rung, on validation rows."""


def _go_on() -> None:
    """Asks nothing."""


@dataclass(frozen=True)
class Course:
    """What a training minds beside its own end. Whoever it asks may raise, and it ends where it is."""

    state: State | None = None
    """What to go on from; the model has taken it up."""
    keep: Callable[[State], object] | None = None
    """Hears of every rung but the last, before the rung is known to anybody."""
    ask: Callable[[], None] = _go_on
    """Asked before each step, whether there is to be one."""


UNBROKEN = Course()
"""From the first step to the last."""


class TrainingFailed(Exception):
    """Training cannot go on; the text says at which step and why."""


def train(
    model: TaskModel,
    data: Dataset,
    validation: Dataset,
    candidate: Candidate,
    metric: Metric,
    metrics: Sequence[Metric] = (),
    *,
    seed: int,
    device: torch.device,
    rungs: Sequence[float] = RUNGS,
    pace: Pace | None = None,
    answered: Counted | None = None,
    judge: Judging | None = None,
    course: Course = UNBROKEN,
) -> Iterator[Rung]:
    """Trains to the candidate's end; yields a Rung at each fraction of the steps, and keeps `pace` until then.
    `metrics` are kept beside the one that is judged; `answered` gives what that one needs, where it is something else
    than statistics; `judge` gives it, where it is nothing that outputs tell. Where a state is gone on from, its last
    rung is yielded again, first of all.

    Raises TrainingFailed.
    """
    pace = pace or Pace()
    training, attached = candidate.training, model.methods
    steps = steps_of(training, len(data))
    stops = rung_steps(steps, rungs)
    optimizer = new_optimizer(parameter_groups(attached, model.head, candidate))
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    peaks = [group["lr"] for group in optimizer.param_groups]
    curve: tuple[Rung, ...] = ()
    seconds, done = 0.0, 0
    scaler = scaler_of(device, precision_of(device, model.held))
    with checkpointing(model.model, training.gradient_checkpointing), seeded(seed), _training(model):
        if course.state is not None:
            curve = course.state.curve
            seconds, done = curve[-1].seconds, curve[-1].step
            pace.steps, pace.examples, pace.seconds = course.state.steps, course.state.examples, course.state.seconds
            course.state.restore(optimizer, scaler)
            yield curve[-1]
            draw_on_from(course.state.random, device)
        began, total, since = time.perf_counter(), torch.zeros((), device=device), 0
        for step, rows in islice(enumerate(_endless(data.lengths, training.batch_size, seed)), done, None):
            course.ask()
            factor = learning_rate_factor(step, steps, training)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            total += _step(model, varied(data.batch(rows), training), training.micro_batch_size, device, scaler)
            since += 1
            pace.steps += 1
            pace.examples += len(rows)
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(tensors, training.clip)
            scaler.step(optimizer)
            scaler.update()
            if not scaler.is_enabled() or torch.isfinite(norm):
                attached.stepped(step + 1, steps)
            optimizer.zero_grad(set_to_none=True)
            at_rung = step + 1 in stops
            if (at_rung or step % _LOOK_EVERY == 0) and not torch.isfinite(total):
                raise TrainingFailed(_diverged(step + 1, steps, candidate))
            if at_rung:
                pace.seconds += time.perf_counter() - began
                tokens = evaluated_at_once(training, data.lengths)
                seen = evaluate(model, validation, device, tokens, answered)
                if not math.isfinite(seen.loss):
                    raise TrainingFailed(_diverged(step + 1, steps, candidate))
                seconds += time.perf_counter() - began
                rows = seen.judged if judge is None else judge(model, step + 1 == steps)
                pace.answers = judged(metric, rows)
                score, error = pace.answers.score, pace.answers.error
                beside = [each for each in metrics if each != metric]
                others = {each.name: each.of(seen.statistics) for each in beside}
                errors = {each.name: each.error(seen.statistics) for each in beside}
                curve = (*curve, Rung(step + 1, steps, score, error, total.item() / since, seconds, others, errors))
                # Whoever hears of a rung may draw numbers, too, before this goes on.
                random = random_numbers(device)
                if course.keep is not None and step + 1 < steps:
                    so_far = (pace.steps, pace.examples, pace.seconds)
                    course.keep(State.of(model, optimizer, random, curve, so_far, scaler))
                yield curve[-1]
                draw_on_from(random, device)
                began, total, since = time.perf_counter(), torch.zeros((), device=device), 0
            if step + 1 == steps:
                return


def steps_of(training: Training, rows: int) -> int:
    """Optimizer steps of a whole training on so many rows."""
    return max(1, training.least_steps, round(training.epochs * math.ceil(rows / training.batch_size)))


def _step(
    model: TaskModel, batch: Batch, micro: int | None, device: torch.device, scaler: torch.amp.GradScaler
) -> torch.Tensor:
    """One forward and backward pass of a batch, in pieces where asked; returns its mean loss."""
    total = torch.zeros((), device=device)
    count = model.head.count(batch)
    for piece in cut(batch, micro):
        loss = loss_of(model, on_device(piece, device), device, count)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def set_up(
    model: TaskModel, data: Dataset, *, seed: int, device: torch.device, ask: Callable[[], None] = _go_on
) -> None:
    """Lets the attached methods calibrate on training data; no gradients are left behind. `ask` is asked before each
    batch, and may raise.
    """

    def of_batches(examples: int, batch_size: int) -> Iterator[Callable[[], torch.Tensor]]:
        chosen = np.random.default_rng(seed).permutation(len(data))[:examples]
        for start in range(0, len(chosen), batch_size):
            ask()
            yield partial(_loss, chosen[start : start + batch_size])

    def _loss(rows: np.ndarray) -> torch.Tensor:
        batch = {name: tensor.to(device) for name, tensor in data.batch(rows).items()}
        return mean_loss(model, batch, device)

    with seeded(seed), _training(model):
        model.methods.set_up(of_batches)
    for parameter in model.parameters():
        parameter.grad = None


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
def _training(model: TaskModel) -> Iterator[None]:
    model.train()
    try:
        yield
    finally:
        model.eval()
