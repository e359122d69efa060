"""What can be optimised, each in one entry: the costs, which are known before training, and the score, which is not.

Whoever compares two values asks their objective which one is better; nothing else knows directions, units or bounds.
A new cost is an entry in `COSTS`, a limit in `Limits`, and a field of `trial.Costs`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autopeft.errors import unknown
from autopeft.sizes import (
    Share,
    parse_count,
    parse_count_or_share,
    parse_latency,
    parse_memory,
    parse_overhead,
    parse_score,
    parse_stored,
    parse_training_time,
    show_bytes,
    show_count,
    show_fraction,
    show_milliseconds,
    show_number,
    show_score,
    show_seconds,
)

SCORE = "score"
"""The score's name in code, in plans and in the database, whatever its metric."""
TIME = "time"
"""The name of the one cost that is measured on all of a training."""


@dataclass(frozen=True)
class Unit:
    """How values are read and written."""

    parse: Callable[[Any], Any]
    """Reads a limit. Raises AutopeftError."""
    show: Callable[[float], str]
    metavar: str
    """How a limit is written, for `--help`."""


MEMORY = Unit(parse_memory, show_bytes, "SIZE")
STORED = Unit(parse_stored, show_bytes, "SIZE")
COUNT = Unit(parse_count, show_count, "COUNT")
COUNT_OR_SHARE = Unit(parse_count_or_share, show_count, "COUNT|SHARE")
FRACTION = Unit(parse_overhead, show_fraction, "SHARE")
SECONDS = Unit(parse_latency, show_milliseconds, "DURATION")
LONG = Unit(parse_training_time, show_seconds, "DURATION")
TOWARDS_ONE = Unit(parse_score, show_score, "NUMBER|SHARE")
UNBOUNDED = Unit(parse_score, show_number, "NUMBER|SHARE")


@dataclass(frozen=True)
class Objective:
    """One number to minimise or to maximise."""

    name: str
    """For people who type: of a cost its own, of the score that of its metric."""
    heading: str
    """For people who read."""
    unit: Unit = field(repr=False)
    higher_is_better: bool = False
    ideal: float | None = 0.0
    """The best value there is; None where there is no best."""
    is_score: bool = False

    @property
    def key(self) -> str:
        """Its name in code: one of `COSTS`, or `SCORE`."""
        return SCORE if self.is_score else self.name

    @property
    def sign(self) -> int:
        """What to multiply values by so that more is better."""
        return 1 if self.higher_is_better else -1

    @property
    def is_fraction(self) -> bool:
        """Whether differences mean the same in every search, because the best value there is is 1."""
        return self.is_score and self.ideal == 1

    def show(self, value: float | None) -> str:
        """A value with its unit; a dash where there is none."""
        return "-" if value is None or not math.isfinite(value) else self.unit.show(value)

    def show_like(self, value: float | None, error: float) -> str:
        """A value in as many digits as an error of this size leaves; a fraction always in three."""
        if value is None or not math.isfinite(value) or self.is_fraction or not 1e-9 < error < 1e6:
            return self.show(value)
        power = int(f"{error:.1e}".partition("e")[2])
        return f"{value:.{max(1 - power, 0)}f}"

    def show_with(self, value: float | None, error: float | None) -> str:
        """A value with its standard error, where that is known."""
        if value is None or error is None or not (math.isfinite(value) and math.isfinite(error)):
            return self.show(value)
        return f"{self.show_like(value, error)} ± {self.show_like(error, error)}"


def plain_score(score: Objective) -> dict[str, Any]:
    """The facts of a score's metric, which `score_of` reads back."""
    return {name: getattr(score, name) for name in ("name", "heading", "higher_is_better", "ideal")}


def score_of(name: str, heading: str, higher_is_better: bool = True, ideal: float | None = 1.0) -> Objective:
    """The score as an objective, from the plain facts of its metric."""
    unit = TOWARDS_ONE if ideal == 1 else UNBOUNDED
    return Objective(name, heading, unit, higher_is_better, ideal, is_score=True)


ACCURACY = score_of("accuracy", "accuracy")
COSTS: Mapping[str, Objective] = {
    each.name: each
    for each in (
        Objective("memory", "peak memory", MEMORY),
        Objective("trainable", "trainable", COUNT_OR_SHARE),
        Objective("stored", "stored size", STORED),
        Objective("flops", "FLOPs per step", COUNT),
        Objective("overhead", "inference overhead", FRACTION),
        Objective(TIME, "training time", LONG),
    )
}
"""Every cost by its name, in the order in which they are shown and decide between equals."""
UNITS: Mapping[str, Unit] = {
    **{name: cost.unit for name, cost in COSTS.items()},
    "latency": SECONDS,
    SCORE: TOWARDS_ONE,
}
"""How everything that a budget limits is read and written."""


@dataclass(frozen=True)
class Limits:
    """The most that a candidate may cost; None means no limit."""

    memory: int | None = None
    """Peak training memory, such as 8GiB."""
    trainable: int | Share | None = None
    """Trainable parameters without the task head: a number such as 500k, or a share of the backbone such as 1%."""
    stored: int | None = None
    """Bytes that a trained method takes on disk without the task head, such as 10MiB."""
    flops: int | None = None
    """Floating-point operations of one training step, such as 2T."""
    overhead: float | None = None
    """Extra floating-point operations of inference after merging what merges, such as 5%; 0 where all must merge."""
    time: float | None = field(default=None, kw_only=True)
    """Longest training of one trial on this device, as predicted, such as 90s or 2m."""


def objective_named(name: str, score: Objective = ACCURACY) -> Objective:
    """One objective, where the score may be called so or by its metric. Raises AutopeftError."""
    if name in (SCORE, score.name):
        return score
    if name not in COSTS:
        raise unknown("objective", name, (score.name, *COSTS))
    return COSTS[name]


def objectives_named(names: Iterable[str], score: Objective = ACCURACY) -> tuple[Objective, ...]:
    """Several objectives, in the same order. Raises AutopeftError."""
    return tuple(objective_named(name, score) for name in names)


def show(name: str, value: float | None) -> str:
    """A cost, or whatever else a budget limits, with its unit; a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else UNITS[name].show(value)


def time_of(seconds: float) -> float:
    """The cost `time` of predicted seconds: in no more digits than they are worth, so that what was predicted at one
    moment compares with what was predicted at another.
    """
    return float(f"{seconds:.1e}")


def cost_names(objectives: Iterable[Objective]) -> tuple[str, ...]:
    """The names of those that are costs."""
    return tuple(each.name for each in objectives if not each.is_score)
