"""What every method would cost on one backbone, and how large it may be under a limit of memory; nothing is trained.

Each method and hybrid is predicted at its defaults. With a limit, one or two predictions more tell the largest batch
that fits, and as many the largest size of each of its methods: between two predictions what a step shows in one of its
phases grows linearly, or slower at first, so that what is said to fit does fit. A size is searched up to the backbone's
width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from transformers import PretrainedConfig, PreTrainedModel

from autopeft.costs.api import skeleton_of
from autopeft.costs.depth import Profile
from autopeft.costs.predict import Predictor
from autopeft.errors import AutopeftError
from autopeft.methods.registry import Configured, configured_parts
from autopeft.sizes import parse_bytes
from autopeft.space.candidate import Training
from autopeft.space.space import load_space
from autopeft.trial import Costs

SIZES = ("bottleneck", "rank", "length", "dimensions", "count")
"""Settings that say how large a method is; the first that a method has counts."""
_MOST_ROWS = 1024


@dataclass(frozen=True)
class Estimate:
    """One method or hybrid at its defaults."""

    name: str
    costs: Costs | None
    """None where it does not go on the backbone."""
    refused: str = ""
    """Why it does not."""
    largest: Mapping[str, int] = field(default_factory=dict)
    """Under a limit of memory, the largest value that fits of `batch_size`, and of every size such as `lora.rank`, each
    with all else as asked; 0 where none does, and at most 1024 examples and the backbone's width."""


def estimate(
    model: str | PretrainedConfig | PreTrainedModel,
    *,
    space: str = "default",
    memory: str | int | None = None,
    batch_size: int = 8,
    length: int = 512,
    labels: int = 2,
    gradient_checkpointing: bool = False,
    dtype: str | None = None,
) -> tuple[Estimate, ...]:
    """The costs of every method and hybrid of a space at its defaults, and with `memory` the largest settings that fit.

    >>> estimate("bert-base-uncased", memory="4GiB", batch_size=16, length=128)

    `model` may be a folder, a hub name, a `config.json`, a configuration or a model; its weights are not needed.
    Raises AutopeftError for a model or a space that cannot be had.
    """
    drawn = load_space(space)
    limit = None if memory is None else parse_bytes(memory)
    skeleton = skeleton_of(model, dtype)
    predictor = Predictor(skeleton, drawn.cards, labels, length)
    training = Training(batch_size=batch_size, gradient_checkpointing=gradient_checkpointing)
    found = []
    for name in (*drawn.methods, *drawn.hybrids):
        parts = configured_parts(drawn.defaults(name).parts, drawn.cards)
        try:
            costs = predictor.predict_parts(parts, training)
        except AutopeftError as error:
            found.append(Estimate(name, None, str(error)))
            continue
        prefixes = [f"{part.name}." for part in drawn.hybrids[name].parts] if name in drawn.hybrids else [""]
        largest = {}
        if limit is not None:
            largest = dict(_largest(predictor, parts, prefixes, training, limit, skeleton.sites.width))
        found.append(Estimate(name, costs, largest=largest))
    return tuple(found)


def _largest(
    predictor: Predictor,
    parts: Sequence[Configured],
    prefixes: Sequence[str],
    training: Training,
    limit: int,
    width: int,
) -> Iterator[tuple[str, int]]:
    def in_batches(rows: int) -> Profile:
        return predictor.profile(parts, replace(training, batch_size=rows))

    yield "batch_size", _largest_within(in_batches, 1, training.batch_size, _MOST_ROWS, limit)
    for number, (part, prefix) in enumerate(zip(parts, prefixes, strict=True)):
        size = next((name for name in SIZES if name in part.settings), "")
        default = part.settings.get(size)
        if not isinstance(default, int):
            continue
        is_possible = partial(_is_possible, predictor, parts, number, size)
        least = next(value for value in range(1, default + 1) if is_possible(value))
        most = _most_possible(is_possible, default, width)
        profile = partial(_of_size, predictor, parts, number, size, training)
        found = _largest_within(profile, least, default, most, limit)
        yield prefix + size, next((value for value in range(found, 0, -1) if is_possible(value)), 0)


def _of_size(
    predictor: Predictor, parts: Sequence[Configured], number: int, size: str, training: Training, value: int
) -> Profile:
    return predictor.profile(_sized(parts, number, size, value), training)


def _is_possible(predictor: Predictor, parts: Sequence[Configured], number: int, size: str, value: int) -> bool:
    return predictor.refusal_of(_sized(parts, number, size, value)) is None


def _sized(parts: Sequence[Configured], number: int, size: str, value: int) -> Sequence[Configured]:
    changed = replace(parts[number], settings={**parts[number].settings, size: value})
    return *parts[:number], changed, *parts[number + 1 :]


def _most_possible(is_possible: Callable[[int], bool], low: int, high: int) -> int:
    """The largest value from `low`, which is possible, to `high` that is possible."""
    if low >= high or is_possible(high):
        return max(low, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_possible(middle) else (low, middle)
    return low


def _largest_within(profile: Callable[[int], Profile], least: int, known: int, most: int, limit: int) -> int:
    """The largest value from `least` to `most` whose peak keeps the limit; 0 where not even the least does.

    The peak at `known` and at another value tells of those between them.
    """
    start, end = (known, most) if profile(known).costs.memory <= limit else (least, known)
    if profile(end).costs.memory <= limit:
        return end
    if profile(start).costs.memory > limit:
        return 0
    low, high = start, end
    while high - low > 1:
        middle = (low + high) // 2
        between = profile(start).towards(((middle - start) / (end - start), profile(end)))
        if between is None:
            between = profile(middle)
        low, high = (middle, high) if between.costs.memory <= limit else (low, middle)
    return low
