"""A candidate as numbers by which methods can be compared, in groups that a model may weigh one by one.

Where methods differ in kind they are told apart by name; where they share a quantity (where they sit, how large they
are, how fast they learn) it is one and the same number for all. Learning rates and settings are taken relative to the
defaults of their card, because those are the best guess where each method works: 2e-3 is high for one and low for
another. Gradient checkpointing changes no result and is left out.
"""

import math
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
_NOTHING: Mapping[str, float] = {}


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
    groups["speed"] = {"mean": _mean(rates), "spread": (max(rates) - min(rates)) / 2}
    groups["head"] = {"speed": math.log10(training.head_learning_rate), f"start {training.head_start}": 0.5}
    groups["schedule"] = {"batch": math.log2(training.batch_size) / 2, "epochs": math.log2(training.epochs) / 2}
    groups["batch"] = {"rows": math.log2(training.micro_batch_size or training.batch_size)}
    groups["scale"] = {
        "layers": _mean([_layers_left(part) for part in candidate.parts]),
        "size": _mean([_enlarged(part, cards[part.method]) for part in candidate.parts]),
    }
    groups["checkpointing"] = {"checkpointing": float(training.gradient_checkpointing)}
    return Described(groups)


class Reference:
    """Candidates from which others are looked at: each is turned into numbers once."""

    def __init__(self, described: Sequence[Described], groups: Sequence[str]) -> None:
        self.groups = tuple(groups)
        self.names: list[dict[str, int]] = [{} for _ in self.groups]
        """The columns that each group has among these candidates, in the order of their first appearance."""
        self._values = [np.zeros((0, 0)) for _ in self.groups]
        self._squares = [np.zeros(0) for _ in self.groups]
        """Sums of squares of each candidate's values."""
        self.add(described)

    def add(self, described: Sequence[Described]) -> None:
        """Further ones, after the others."""
        for at, group in enumerate(self.groups):
            names, had = self.names[at], self._values[at]
            for each in described:
                for name in each.groups.get(group, ()):
                    names.setdefault(name, len(names))
            wider = np.zeros((len(had), len(names)))
            wider[:, : had.shape[1]] = had
            new = self._seen(at, described)[0]
            self._values[at] = np.concatenate([wider, new])
            self._squares[at] = np.concatenate([self._squares[at], (new**2).sum(axis=1)])

    def named(self) -> list[tuple[str, str]]:
        """All coordinates, each by its group and its name."""
        return [(group, name) for group, names in zip(self.groups, self.names, strict=True) for name in names]

    def coordinates(self, others: Sequence[Described] | None = None) -> Array:
        """In all groups, one after the other: (others, names); of the candidates themselves where none are given."""
        values = self._values if others is None else [self._seen(at, others)[0] for at in range(len(self.groups))]
        return np.concatenate(values, axis=1)

    def distances(self, others: Sequence[Described] | None = None) -> Array:
        """Squares of those of every pair, in every group: (groups, candidates, others)."""
        return np.stack([self._squared(at, others) for at in range(len(self.groups))])

    def _squared(self, at: int, others: Sequence[Described] | None) -> Array:
        own, squares = self._values[at], self._squares[at]
        if others is None:
            seen, its = own, squares
        else:
            seen, beside = self._seen(at, others)
            its = (seen**2).sum(axis=1) + beside
        squared: Array = squares[:, None] + its[None] - 2 * own @ seen.T
        return np.maximum(squared, 0.0, out=squared)

    def _seen(self, at: int, others: Sequence[Described]) -> tuple[Array, Array]:
        """Their values in the columns of a group, (others, names), and the sums of squares of what has no column."""
        group, names = self.groups[at], self.names[at]
        values, beside = np.zeros((len(others), len(names))), np.zeros(len(others))
        for row, each in enumerate(others):
            for name, value in each.groups.get(group, _NOTHING).items():
                if (column := names.get(name)) is None:
                    beside[row] += value**2
                else:
                    values[row, column] = value
        return values, beside


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


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
