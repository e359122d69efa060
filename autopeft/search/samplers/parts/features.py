"""A candidate as numbers by which methods can be compared, in groups that a model may weigh one by one.

Where methods differ in kind they are told apart by name; where they share a quantity (where they sit, how large they
are, how fast they learn) it is one and the same number for all. Learning rates and settings are taken relative to the
defaults of their card, because those are the best guess where each method works: 2e-3 is high for one and low for
another. Gradient checkpointing changes no result and is left out.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autopeft.space.candidate import Candidate, Part, Value
from autopeft.space.cards import Card, size_among

Array = NDArray[np.float64]

GROUPS = ("form", "place", "size", "speed", "head", "schedule", "settings")
"""What scores depend on."""


@dataclass(frozen=True)
class Described:
    """Groups of named coordinates; a coordinate that is not named is 0."""

    groups: Mapping[str, Mapping[str, float]]


def describe(candidate: Candidate, cards: Mapping[str, Card]) -> Described:
    """All groups of a candidate but `size`, which depends on the backbone."""
    training = candidate.training
    groups: dict[str, dict[str, float]] = defaultdict(dict)
    for part in candidate.parts:
        groups["form"][part.method] = math.sqrt(0.5)
        for name, value in part.settings.items():
            _setting(groups, part, name, value, cards[part.method])
    rates = [math.log10(part.learning_rate / _default_rate(cards[part.method])) for part in candidate.parts]
    groups["speed"] = {"mean": statistics.fmean(rates), "spread": (max(rates) - min(rates)) / 2}
    groups["head"] = {"speed": math.log10(training.head_learning_rate), f"start {training.head_start}": 0.5}
    groups["schedule"] = {"batch": math.log2(training.batch_size) / 2, "epochs": math.log2(training.epochs) / 2}
    groups["batch"] = {"rows": math.log2(training.micro_batch_size or training.batch_size)}
    groups["scale"] = {
        "layers": statistics.fmean(_layers_left(part) for part in candidate.parts),
        "size": statistics.fmean(_enlarged(part, cards[part.method]) for part in candidate.parts),
    }
    groups["checkpointing"] = {"checkpointing": float(training.gradient_checkpointing)}
    return Described(groups)


def squared_distances(one: Sequence[Described], other: Sequence[Described], groups: Sequence[str]) -> Array:
    """Of every pair, in every group: (groups, one, other)."""
    return np.stack([_squared(one, other, group) for group in groups])


def coordinates(described: Sequence[Described], group: str) -> tuple[list[str], Array]:
    """All names that the group has anywhere, and their values: (candidates, names)."""
    names = sorted({name for each in described for name in each.groups.get(group, {})})
    column = {name: at for at, name in enumerate(names)}
    values = np.zeros((len(described), len(names)))
    for row, each in enumerate(described):
        for name, value in each.groups.get(group, {}).items():
            values[row, column[name]] = value
    return names, values


def _squared(one: Sequence[Described], other: Sequence[Described], group: str) -> Array:
    _, values = coordinates([*one, *other], group)
    a, b = values[: len(one)], values[len(one) :]
    squared: Array = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    return np.maximum(squared, 0.0)


def _setting(groups: dict[str, dict[str, float]], part: Part, name: str, value: Value, card: Card) -> None:
    default = card.settings[name].default
    if name == "sites" and isinstance(value, tuple):
        groups["place"] |= {str(site): 0.5 for site in value}
    elif name == "layers":
        groups["place"]["layers"] = fraction(value)
    elif _is_number(value) and _is_number(default) and float(str(value)) > 0 < float(str(default)):
        groups["settings"][f"{part.method}.{name}"] = math.log2(float(str(value)) / float(str(default))) / 4
    elif value != default:
        groups["settings"][f"{part.method}.{name} {value}"] = 0.5


def _layers_left(part: Part) -> float:
    """The logarithm of the fraction of layers that a part adapts."""
    return math.log(fraction(part.settings.get("layers", "all")))


def _enlarged(part: Part, card: Card) -> float:
    """The logarithm of how many times as large as its card says a part is."""
    size = size_among(part.settings)
    if not size or not _is_number(part.settings[size]):
        return 0.0
    return math.log(float(str(part.settings[size])) / float(str(card.settings[size].default)))


def fraction(layers: Value) -> float:
    """`last 25%` is 0.25; everything else is all layers."""
    words = str(layers).split()
    return float(words[1].removesuffix("%")) / 100 if len(words) == 2 and words[1].endswith("%") else 1.0


def _default_rate(card: Card) -> float:
    return float(str(card.training["learning_rate"].default))


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
