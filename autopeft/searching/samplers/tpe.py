"""Optuna's tree-structured Parzen estimator, several objectives and all parameters of a method together."""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler

from autopeft.searching.samplers.parts.interface import Ground, Sampler
from autopeft.searching.samplers.parts.of_optuna import OfOptuna


def sampler(ground: Ground) -> Sampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return OfOptuna(TPESampler(seed=ground.seed, multivariate=True, group=True, constant_liar=True))
