"""Optuna's Gaussian process."""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import GPSampler

from autopeft.searching.samplers.parts.interface import Ground, Sampler
from autopeft.searching.samplers.parts.of_optuna import OfOptuna


def sampler(ground: Ground) -> Sampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return OfOptuna(GPSampler(seed=ground.seed, warn_independent_sampling=False))
