"""Optuna's genetic algorithm (NSGA-II)."""

from optuna.samplers import NSGAIISampler

from autopeft.searching.samplers.parts.interface import Ground, Sampler
from autopeft.searching.samplers.parts.of_optuna import OfOptuna


def sampler(ground: Ground) -> Sampler:
    return OfOptuna(NSGAIISampler(seed=ground.seed))
