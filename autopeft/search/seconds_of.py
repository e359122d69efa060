"""What trainings take, from their operations, and from what those took that this search has trained.

Methods take longer or shorter than their operations say, some ten times as long; so each has a pace, learned from its
own trials, and expected to be that of all. Until anything is measured, seconds tell only how many times as long one
candidate takes as another.
"""

import math
from statistics import fmean

from autopeft.space.candidate import Candidate, Training
from autopeft.trial import Costs, Trial

_USUAL = math.log(1e-11)
"""The logarithm of the seconds of an operation, before anything is measured."""


class SecondsOf:
    """Called with a candidate and its costs, the seconds that its training takes."""

    def __init__(self, rows: int) -> None:
        """Of training data."""
        self._rows = rows
        self._paces: dict[tuple[str, ...], list[float]] = {}

    def __call__(self, candidate: Candidate, costs: Costs) -> float:
        usual = fmean([fmean(paces) for paces in self._paces.values()] or [_USUAL])
        pace = fmean([usual, *self._paces.get(_methods(candidate), [])])
        return self._operations(candidate, costs) * math.exp(pace)

    def learn(self, trial: Trial) -> None:
        """How long a trial took, or would have taken if it had not been stopped."""
        last = trial.curve[-1] if trial.curve else None
        if last is not None and last.seconds > 0:
            whole = last.seconds * last.steps / last.step
            pace = math.log(whole / self._operations(trial.candidate, trial.predicted))
            self._paces = {**self._paces, (of := _methods(trial.candidate)): [*self._paces.get(of, []), pace]}

    def _operations(self, candidate: Candidate, costs: Costs) -> float:
        return _steps(candidate.training, self._rows) * max(costs.flops, 1) + (costs.set_up_flops or 0)


def _steps(training: Training, rows: int) -> int:
    return max(1, training.least_steps, round(training.epochs * math.ceil(rows / training.batch_size)))


def _methods(candidate: Candidate) -> tuple[str, ...]:
    return tuple(sorted({part.method for part in candidate.parts}))
