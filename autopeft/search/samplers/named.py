"""Every sampler by its name."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from autopeft.objectives import Objective
from autopeft.search.samplers.interface import SPANNING, Sampler
from autopeft.search.samplers.known_costs import KnownCosts
from autopeft.space.candidate import Candidate
from autopeft.space.space import Space
from autopeft.trial import Costs, Trial


@dataclass(frozen=True)
class Ground:
    """What a sampler may know of the search that it proposes for."""

    space: Space
    objectives: tuple[Objective, ...]
    predict: Callable[[Candidate], Costs]
    limits: Mapping[str, float]
    seed: int
    trivial: float | None = None
    """The score that any candidate has to beat."""


@dataclass(frozen=True)
class _OfOptuna:
    """Chooses nothing itself."""

    optuna: BaseSampler
    begins_with: int = SPANNING
    """These samplers know nothing of the front before."""

    def choose(self, told: Sequence[Trial], pending: Sequence[Mapping[str, Any]]) -> None:  # noqa: ARG002
        return None

    def consider(self, known_good: Sequence[Mapping[str, Any]]) -> None:
        """What a search begins with is all that Optuna learns of them."""

    def keep(self, limits: Mapping[str, float]) -> None:
        """Optuna learns limits from what was turned away."""


def _known_costs(ground: Ground) -> Sampler:
    return KnownCosts(ground.space, ground.objectives, ground.predict, ground.limits, ground.seed, ground.trivial)


def _tpe(ground: Ground) -> Sampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _OfOptuna(TPESampler(seed=ground.seed, multivariate=True, group=True, constant_liar=True))


def _gp(ground: Ground) -> Sampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _OfOptuna(GPSampler(seed=ground.seed, warn_independent_sampling=False))


SAMPLERS: Mapping[str, Callable[[Ground], Sampler]] = {
    "known_costs": _known_costs,
    "tpe": _tpe,
    "nsga2": lambda ground: _OfOptuna(NSGAIISampler(seed=ground.seed)),
    "gp": _gp,
    "random": lambda ground: _OfOptuna(RandomSampler(seed=ground.seed)),
}
