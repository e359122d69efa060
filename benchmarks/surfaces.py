"""Surfaces to search on without training: costs and learning curves of candidates, at no time at all.

`Synthetic` makes them up from a seed, over the real cards of 14 methods, with real orders of magnitude. Its learning
rates have an optimum of their own for every method, near the card's default but not at it; sites, placements and the
like have small effects of their own; larger is better, less and less; and too high a learning rate fails.

`Recorded` answers from a table of real candidates (see `record.py`) with the nearest one of the same method; costs are
those of the candidate itself.
"""

import csv
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from recording import costs_beside, recording_space, settings_of

from autopeft.searching.samplers.parts.features import fraction
from autopeft.space.candidate import Candidate, Part, Training, Value
from autopeft.space.parameters import Recalled
from autopeft.space.space import Space, load_space
from autopeft.training.loop import RUNGS
from autopeft.trial import Costs, Rung, Status

MIB = 2**20
SIZES: Mapping[str, tuple[int, float, tuple[str, ...]]] = {
    "adalora": (9_228 * 12, 1.05, ("rank",)),
    "adapter": (297_600, 1.0, ("bottleneck",)),
    "bitfit": (25_728, 1.0, ()),
    "compacter": (14_752, 1.06, ("bottleneck", "rank")),
    "fishmask": (112_826, 1.3, ("keep",)),
    "ia3": (13_824, 1.3, ()),
    "krona": (9_984, 1.03, ()),
    "lora": (73_728, 1.0, ("rank",)),
    "norm_tuning": (9_984, 1.0, ()),
    "prefix_tuning": (92_160, 1.1, ("length",)),
    "prompt_tuning": (3_840, 1.25, ("length",)),
    "said": (1_000, 1.4, ("dimensions",)),
    "top_layers": (1_774_464, 0.3, ("count",)),
    "vera": (7_680, 1.12, ()),
}
"""Trainable parameters at the defaults on MiniLM, activations relative to LoRA's, and settings that scale the first."""
METHODS = tuple(SIZES)
SLOWER: Mapping[str, float] = {"said": 10.0}
"""How many times as long as its operations say a method takes; about as measured on MiniLM."""
LEAST_STEPS = 100
ROWS, VALIDATION_ROWS = 2000, 800
RECORDED_ROWS = 500
"""For validation, of the tables in `recorded/`."""
WEIGHTS = 90 * MIB
ACTIVATIONS_PER_ROW = 7 * MIB


class Surface(Protocol):
    """Answers for candidates of its space."""

    space: Space
    validation_rows: int

    def costs(self, candidate: Candidate) -> Costs:
        """What it costs, known before training."""

    def curve(self, candidate: Candidate) -> Sequence[Rung]:
        """What training it would show, on validation data."""

    def worth(self, candidate: Candidate) -> float:
        """Its accuracy on new data after the whole training."""


@dataclass(frozen=True)
class _Taste:
    """What one method is like on one surface."""

    quality: float
    best_rate: float
    """Decades from the card's default."""
    width: float
    """Decades below the best rate at which a third is lost."""


class Synthetic:
    """Another surface for every seed."""

    def __init__(self, seed: int) -> None:
        self.space = load_space("default").only(METHODS)
        self.validation_rows = VALIDATION_ROWS
        self._seed = seed
        rng = np.random.default_rng(seed)
        self._tastes = {
            name: _Taste(rng.uniform(0.75, 1.0), rng.normal(0, 0.35), rng.uniform(0.5, 0.9)) for name in METHODS
        }
        self._half = 10 ** rng.uniform(2.5, 4.0)
        self._probe, self._best = rng.uniform(0.6, 0.75), rng.uniform(0.85, 0.95)
        self._rate_by_size = rng.normal(0, 0.1)
        self._head = rng.uniform(-3.5, -2.3)

    def costs(self, candidate: Candidate) -> Costs:
        trainable, activations = 0.0, 0.0
        for part in candidate.parts:
            trainable += self._trainable(part)
            activations += self._activations(part)
        training = candidate.training
        batch = training.micro_batch_size or training.batch_size
        held = activations * batch * ACTIVATIONS_PER_ROW * (0.45 if training.gradient_checkpointing else 1.0)
        flops = batch * 2e9 * (1.3 if training.gradient_checkpointing else 1.0) * max(activations, 0.5)
        return Costs(int(trainable), int(WEIGHTS + held + 16 * trainable), int(4 * trainable), int(flops))

    def worth(self, candidate: Candidate) -> float:
        return self._final(candidate, _steps(candidate.training))[0]

    def curve(self, candidate: Candidate) -> Sequence[Rung]:
        training = candidate.training
        steps = _steps(training)
        final, speed = self._final(candidate, steps)
        start = self._probe if training.head_start == "probe" else 0.5
        pace = max(SLOWER.get(part.method, 1.0) for part in candidate.parts) * self.costs(candidate).flops / 1e11
        rungs = []
        for at, share in enumerate(RUNGS):
            progress = (1 - math.exp(-share * speed)) / (1 - math.exp(-speed))
            accuracy = start + (final - start) * progress
            accuracy += self._chance(candidate, f"rung {at}") * math.sqrt(accuracy * (1 - accuracy) / VALIDATION_ROWS)
            step = max(1, round(share * steps))
            rungs.append(Rung(step, steps, min(max(accuracy, 0.0), 1.0), 0.02, 1.0, step * pace))
        return rungs

    def _final(self, candidate: Candidate, steps: int) -> tuple[float, float]:
        training = candidate.training
        qualities, fits, decades = [], [], []
        for part in candidate.parts:
            taste = self._tastes[part.method]
            size = self._trainable(part)
            relative = math.log10(size / SIZES[part.method][0])
            default = float(str(self.space.cards[part.method].training["learning_rate"].default))
            best = taste.best_rate + self._rate_by_size * relative + 0.3 * math.log10(training.batch_size / 32)
            off = math.log10(part.learning_rate / default) - best - 0.3 * math.log10(300 / steps)
            fits.append(
                math.exp(-((off / taste.width) ** 2)) if off < 0 else math.exp(-((off / (0.6 * taste.width)) ** 4))
            )
            grown = size**0.5 / (size**0.5 + self._half**0.5)
            effects = sum(self._effect(part.method, name, value) for name, value in part.settings.items())
            qualities.append(taste.quality * grown + effects)
            decades.append(off)
        head = math.exp(-(((math.log10(training.head_learning_rate) - self._head) / 1.5) ** 2))
        skill = max(qualities) * (sum(fits) / len(fits)) * (0.8 + 0.2 * head) * (1 - 0.06 * 300 / (300 + steps))
        failed = max(decades) > 1.0
        low = 0.5 if failed else self._probe - 0.1
        final = low + (self._best - low) * min(max(0.0 if failed else skill, 0.0), 1.0)
        return final, 3.0 * 10 ** (0.4 * sum(decades) / len(decades))

    def _trainable(self, part: Part) -> float:
        least, _, scaled = SIZES[part.method]
        size: float = least
        card = self.space.cards[part.method]
        for name in scaled:
            size = size * float(str(part.settings[name])) / float(str(card.settings[name].default))
        sites = part.settings.get("sites")
        if isinstance(sites, tuple):
            size = size * sum(2.5 if str(site).startswith("ffn") else 1 for site in sites) / 2
        if part.settings.get("placement") == "houlsby":
            size *= 2
        return max(50.0, size * fraction(part.settings.get("layers", "all")))

    def _activations(self, part: Part) -> float:
        _, activations, _ = SIZES[part.method]
        if part.method == "top_layers":
            activations *= float(str(part.settings["count"]))
        layers = fraction(part.settings.get("layers", "all"))
        sites = part.settings.get("sites")
        extra = 0.05 * (len(sites) - 2) if isinstance(sites, tuple) else 0.0
        return (activations + extra) * (0.1 + 0.9 * layers)

    def _effect(self, method: str, name: str, value: Value) -> float:
        """A small effect that is always the same on one surface; of sites and layers the same for all methods."""
        whose = "" if name in ("sites", "layers") else method
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return 0.0 if number else 0.03 * self._normal(f"{whose} {name} {value}")

    def _chance(self, candidate: Candidate, what: str) -> float:
        return self._normal(json.dumps(candidate.to_dict(), sort_keys=True) + what)

    def _normal(self, text: str) -> float:
        """A standard normal number that depends on the surface and a text only."""
        digest = hashlib.sha256(f"{self._seed} {text}".encode()).digest()
        return float(np.random.default_rng(int.from_bytes(digest[:8])).normal())


def _steps(training: Training) -> int:
    return max(LEAST_STEPS, round(training.epochs * ROWS / training.batch_size))


class Recorded:
    """A candidate's own costs, and the curve of the nearest one in a table."""

    def __init__(self, table: Path) -> None:
        rows = [row for row in _rows(table) if row["status"] == Status.FINISHED.value]
        self.space = recording_space()
        self.validation_rows = RECORDED_ROWS
        candidates = [self.space.draw(Recalled(json.loads(row["params"]))) for row in rows]
        self.candidates = list(zip(candidates, rows, strict=True))
        self._rows: dict[str, list[tuple[Mapping[str, Value], Mapping[str, str]]]] = {}
        for candidate, row in zip(candidates, rows, strict=True):
            self._rows.setdefault(candidate.name, []).append((_flat(candidate), row))
        self._costs = {row["settings"]: costs_in(row) for row in _rows(costs_beside(table))}

    def costs(self, candidate: Candidate) -> Costs:
        return self._costs[settings_of(candidate)]

    def curve(self, candidate: Candidate) -> Sequence[Rung]:
        curve = json.loads(self._nearest(candidate)["curve"])
        return [Rung(step, steps, accuracy, 0.02, 1.0, seconds) for step, steps, accuracy, seconds in curve]

    def worth(self, candidate: Candidate) -> float:
        return float(self._nearest(candidate)["test"])

    def _nearest(self, candidate: Candidate) -> Mapping[str, str]:
        flat = _flat(candidate)
        return min(self._rows[candidate.name], key=lambda known: _distance(flat, known[0]))[1]


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def costs_in(row: Mapping[str, str]) -> Costs:
    """Those that a row of a table tells."""
    trainable, memory, stored, flops = (int(row[name]) for name in ("trainable", "memory", "stored", "flops"))
    return Costs(trainable, memory, stored, flops)


def _flat(candidate: Candidate) -> Mapping[str, Value]:
    flat: dict[str, Value] = {}
    for part in candidate.parts:
        flat |= {f"{part.method}.{name}": value for name, value in part.settings.items()}
        flat |= {f"{part.method}.learning_rate": part.learning_rate}
    training = candidate.training
    return flat | {name: getattr(training, name) for name in Training.__dataclass_fields__}


def _distance(one: Mapping[str, Value], other: Mapping[str, Value]) -> float:
    return sum(_differ(one.get(name), other.get(name)) for name in {*one, *other})


def _differ(one: Value, other: Value) -> float:
    """Of two numbers by their ratio, ten times counting 1; of anything else 0 or 1."""
    if _is_number(one) and _is_number(other) and float(str(one)) > 0 < float(str(other)):
        return abs(math.log10(float(str(one)) / float(str(other))))
    return float(one != other)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
