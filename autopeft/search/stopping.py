"""Which trials are worth training on: asynchronous early stopping that respects costs.

At a rung a trial is compared only with finished trials that cost no more than it does in every objective known before
training: a dearer one may be better for its price, and what nothing cheaper beats is on the front whatever its
score. It goes on as long as enough of the ends that it may have reach the best of them. Finished trials tell what
training beyond a rung brings: each of those that were nearest to it in score at that rung says one end. So a rung
takes no longer where many trials have ended: those are kept in order, and of rivals only what may be the best.

Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934) has the same rungs and promotes a fixed part of what
reaches them. That goes by ranks, which among trials of equal costs say who is best but not whether it matters: it stops
too few where most are beaten, and the future best where all are close. `benchmarks/samplers.py` compares a search with
and without this rule.
"""

import math
from collections.abc import Sequence
from operator import le

import numpy as np

from autopeft.objectives import Objective, cost_names
from autopeft.search.extrapolation import Ended
from autopeft.trial import Status, Trial

CHANCE = 3 / 8
"""A trial is stopped where a smaller part of its possible ends than this reaches what it has to beat."""


class Stopping:
    """Remembers what there is to compare with, and decides."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._names = cost_names(objectives)
        self._sign = next((each.sign for each in objectives if each.is_score), 1)
        self._ended = Ended()
        self._rivals: list[tuple[tuple[float, ...], float]] = []
        """Costs and ends of finished trials, without those that another one at no higher costs ended as high as."""

    def learn(self, trial: Trial) -> None:
        """What became of a trial."""
        if trial.status is not Status.FINISHED or not math.isfinite(trial.curve[-1].score):
            return
        self._ended.add(trial.curve)
        costs, end = self._costs(trial), self._sign * trial.curve[-1].score
        if not any(end <= best and _no_more(cheaper, costs) for cheaper, best in self._rivals):
            kept = [each for each in self._rivals if each[1] > end or not _no_more(costs, each[0])]
            self._rivals = [*kept, (costs, end)]

    def goes_on(self, trial: Trial) -> bool:
        """Whether a trial that has just reached a rung is trained on; the last rung is an end, not a decision."""
        costs, last = self._costs(trial), trial.curve[-1]
        rivals = [end for cheaper, end in self._rivals if _no_more(cheaper, costs)]
        if last.step >= last.steps or not rivals:
            return True
        possible = self._ended.ends(trial.curve)
        return len(possible) == 0 or bool(np.mean(self._sign * possible >= max(rivals)) >= CHANCE)

    def _costs(self, trial: Trial) -> tuple[float, ...]:
        return tuple(trial.value(name) for name in self._names)


def _no_more(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(map(le, one, other))
