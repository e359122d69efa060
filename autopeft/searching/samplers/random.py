"""Draws at random."""

from optuna.samplers import RandomSampler

from autopeft.searching.samplers.parts.interface import Ground, Sampler
from autopeft.searching.samplers.parts.of_optuna import OfOptuna


def sampler(ground: Ground) -> Sampler:
    return OfOptuna(RandomSampler(seed=ground.seed))
