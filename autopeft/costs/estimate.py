"""What every method would cost on one backbone, and how large it may be under a limit of memory; nothing is trained.

Each method and hybrid is predicted at its defaults. With a limit that the bare backbone keeps, one or two predictions
more tell the largest batch that fits, and as many the largest size of each of its methods: between two predictions what
a step shows in one of its phases grows linearly, or slower at first, so that what is said to fit does fit. A size is
searched up to the backbone's width.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from multiprocessing import get_context, parent_process
from threading import Thread

import numpy as np
from transformers import PretrainedConfig, PreTrainedModel

from autopeft.backbone.held import name_of
from autopeft.backbone.load import is_of_causal_model
from autopeft.costs.api import predictor_of
from autopeft.costs.depth import Profile
from autopeft.costs.load import Load
from autopeft.costs.predict import Predictor
from autopeft.costs.rates import Rates, rates_of
from autopeft.costs.room import free_here, limit_of
from autopeft.costs.seconds import Seconds
from autopeft.costs.told import About, Estimate, Expected
from autopeft.data.splits import validation_size
from autopeft.errors import AutopeftError
from autopeft.events import Doing
from autopeft.methods.registry import Configured, configured_parts
from autopeft.sizes import parse_memory
from autopeft.space.candidate import Training
from autopeft.space.cards import size_among
from autopeft.space.space import Space, load_space
from autopeft.tasks.base import Task
from autopeft.tasks.named import task_named
from autopeft.training.precision import device_here, held_as, packed_as
from autopeft.trial import Costs

_MOST_ROWS = 1024


def estimate(
    model: str | PretrainedConfig | PreTrainedModel,
    *,
    space: str = "default",
    memory: str | int | None = None,
    batch_size: int = 8,
    length: int = 512,
    task: str | None = None,
    labels: int = 2,
    gradient_checkpointing: bool = False,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    rows: int | None = None,
    processes: int = 1,
    on_event: Callable[[Doing], None] | None = None,
) -> tuple[Estimate, ...]:
    """What `autopeft.estimate` answers; `on_event` hears how far it is. Raises AutopeftError."""
    drawn = load_space(space)
    names = (*drawn.methods, *drawn.hybrids)
    if isinstance(model, PreTrainedModel):
        dtype = dtype or str(model.dtype).removeprefix("torch.")
        model = model.config
    training = Training(batch_size=batch_size, gradient_checkpointing=gradient_checkpointing)
    limit = limit_of(None if memory is None else parse_memory(memory), free_here())
    learned = task_named(task or usual_task(model, trust_remote_code)).sized(labels)
    seconds = None if rows is None else _seconds_on(rows, length)
    estimator = _Estimator(model, drawn, training, learned, length, dtype, limit, trust_remote_code, seconds, rows)
    if processes < 2:
        return _told(map(estimator.estimate, names), len(names), on_event)
    with ProcessPoolExecutor(processes, get_context("spawn"), _share, (estimator,)) as pool:
        return _told(pool.map(_estimate, names), len(names), on_event)


def usual_task(model: str | PretrainedConfig, trust_remote_code: bool = False) -> str:
    """What a model is fine-tuned for, where nobody said it. Raises AutopeftError for one that cannot be had."""
    return "text-generation" if is_of_causal_model(model, trust_remote_code) else "text-classification"


def about(
    model: str,
    *,
    task: str | None,
    batch_size: int,
    length: int,
    gradient_checkpointing: bool,
    dtype: str,
    memory: str | int | None,
    space: str,
    rows: int | None,
    trust_remote_code: bool,
) -> About:
    """What `estimate` estimates when it is asked so: all that was left to it, decided. Raises AutopeftError."""
    task = task_named(task or usual_task(model, trust_remote_code)).name
    held = packed_as(dtype) or name_of(held_as(dtype))
    limit = limit_of(None if memory is None else parse_memory(memory), free_here())
    return About(model, task, batch_size, length, gradient_checkpointing, held, limit, space, rows)


def _told(estimates: Iterable[Estimate], count: int, on_event: Callable[[Doing], None] | None) -> tuple[Estimate, ...]:
    """All of them; it is told, some ten times, how many there are already."""
    tell = on_event or (lambda _: None)
    tell(Doing("estimating what a method costs" if count == 1 else f"estimating what {count} methods cost"))
    done: list[Estimate] = []
    for each in estimates:
        done.append(each)
        if len(done) % max(1, count // 10) == 0:
            tell(Doing(f"estimated {len(done)} of {count} methods"))
    return tuple(done)


@dataclass(frozen=True)
class _Estimator:
    """All that the methods of one space are asked, whichever process asks."""

    model: str | PretrainedConfig
    space: Space
    training: Training
    task: Task
    length: int
    dtype: str | None
    limit: float | None
    trust_remote_code: bool
    seconds: tuple[Load, Rates] | None
    """What there is to train on, and how fast this device is, where seconds are asked for."""
    rows: int | None

    @cached_property
    def predictor(self) -> Predictor:
        """For every method of the space; each process makes its own."""
        cards = self.space.cards
        return predictor_of(self.model, self.dtype, cards, self.task, self.length, self.trust_remote_code, self.rows)

    def estimate(self, name: str) -> Estimate:
        """Raises AutopeftError for a model that cannot be had."""
        predictor, training, limit = self.predictor, self.training, self.limit
        parts = configured_parts(self.space.defaults(name).parts, self.space.cards)
        hybrid = self.space.hybrids.get(name)
        prefixes = [f"{part.name}." for part in hybrid.parts] if hybrid else [""]
        try:
            costs = predictor.predict_parts(parts, training)
        except AutopeftError as error:
            return Estimate(name, None, str(error))
        seconds = self._seconds(name, costs)
        if limit is None:
            return Estimate(name, costs, seconds=seconds)
        sizes = {prefixes[number] + size: (number, size, default) for number, size, default in _sizes(parts)}
        if predictor.weights > limit:
            return Estimate(name, costs, largest=dict.fromkeys(("batch_size", *sizes), 0), seconds=seconds)
        by_rows = partial(_of_rows, predictor, parts, training)
        largest = {"batch_size": _largest(by_rows, _always, training.batch_size, _MOST_ROWS, limit)}
        for label, (number, size, default) in sizes.items():
            of_size = partial(_of_size, predictor, parts, training, number, size)
            is_possible = partial(_is_possible, predictor, parts, number, size)
            largest[label] = _largest(of_size, is_possible, default, max(default, predictor.width), limit)
        return Estimate(name, costs, largest=largest, seconds=seconds)

    def _seconds(self, name: str, costs: Costs) -> Expected | None:
        if self.seconds is None:
            return None
        load, rates = self.seconds
        candidate = self.space.defaults(name)
        training = replace(
            candidate.training,
            batch_size=self.training.batch_size,
            gradient_checkpointing=self.training.gradient_checkpointing,
        )
        return Seconds(load, lambda: rates).expected(replace(candidate, training=training), costs)


def _seconds_on(rows: int, length: int) -> tuple[Load, Rates]:
    """So many rows to train on, all of one length, a tenth as many to validate on; and the rates of this device."""
    load = Load(np.full(rows, length), np.full(validation_size(rows, 1), length))
    return load, rates_of(device_here())


_shared: _Estimator
"""In a process that shares the work."""


def _share(estimator: _Estimator) -> None:
    global _shared
    _shared = estimator
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Else a process whose parent was killed would wait for work, and hold its memory, for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _estimate(name: str) -> Estimate:
    return _shared.estimate(name)


def _sizes(parts: Sequence[Configured]) -> Iterator[tuple[int, str, int]]:
    """Each part that has a size: its number, the size's name, and its value."""
    for number, part in enumerate(parts):
        size = size_among(part.settings)
        default = part.settings.get(size)
        if isinstance(default, int):
            yield number, size, default


def _of_rows(predictor: Predictor, parts: Sequence[Configured], training: Training, rows: int) -> Profile:
    return predictor.profile(parts, replace(training, batch_size=rows))


def _of_size(
    predictor: Predictor, parts: Sequence[Configured], training: Training, number: int, size: str, value: int
) -> Profile:
    return predictor.profile(_sized(parts, number, size, value), training)


def _is_possible(predictor: Predictor, parts: Sequence[Configured], number: int, size: str, value: int) -> bool:
    return predictor.can_attach(_sized(parts, number, size, value))


def _always(_: int) -> bool:
    return True


def _sized(parts: Sequence[Configured], number: int, size: str, value: int) -> Sequence[Configured]:
    changed = replace(parts[number], settings={**parts[number].settings, size: value})
    return *parts[:number], changed, *parts[number + 1 :]


def _largest(
    profile: Callable[[int], Profile], is_possible: Callable[[int], bool], known: int, most: int, limit: float
) -> int:
    """The largest possible value up to `most` whose peak keeps the limit; 0 where none does. `known` is possible.

    The peak at `known` and at another value tells of those between them.
    """

    def fits(value: int) -> bool:
        return profile(value).costs.memory <= limit

    if fits(known):
        start, end = known, _most_possible(is_possible, known, most)
    else:
        start, end = next(value for value in range(1, known + 1) if is_possible(value)), known
    if fits(end):
        return end
    if not fits(start):
        return 0
    low, high = start, end
    while high - low > 1:
        middle = (low + high) // 2
        between = profile(start).towards(((middle - start) / (end - start), profile(end))) or profile(middle)
        low, high = (middle, high) if between.costs.memory <= limit else (low, middle)
    return next(value for value in range(low, start - 1, -1) if value == start or is_possible(value))


def _most_possible(is_possible: Callable[[int], bool], low: int, high: int) -> int:
    """The largest value from `low`, which is possible, to `high` that is possible."""
    if low == high or is_possible(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_possible(middle) else (low, middle)
    return low
