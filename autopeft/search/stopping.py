"""Which trials are worth training on: asynchronous early stopping that respects costs. Pure.

At a rung a trial is compared only with finished trials that cost no more than it does in every objective known before
training: a dearer one may be better for its price, and what nothing cheaper beats is on the front whatever its
score. It goes on as long as enough of the ends that it may have reach the best of them. Finished trials tell what
training beyond a rung brings: each of those that were nearest to it in score at that rung says one end.

Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934) has the same rungs and promotes a fixed part of what
reaches them. That goes by ranks, which among trials of equal costs say who is best but not whether it matters: it stops
too few where most are beaten, and the future best where all are close. `benchmarks/samplers.py` compares a search with
and without this rule.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from autopeft.objectives import Objective, cost_names
from autopeft.search.extrapolation import ends
from autopeft.trial import Status, Trial

CHANCE = 3 / 8
"""A trial is stopped where a smaller part of its possible ends than this reaches what it has to beat."""


def goes_on(trial: Trial, others: Iterable[Trial], objectives: Sequence[Objective]) -> bool:
    """Whether a trial that has just reached a rung is trained on; the last rung is an end, not a decision."""
    last = trial.curve[-1]
    finished = [
        other
        for other in others
        if other.status is Status.FINISHED and other.number != trial.number and math.isfinite(other.curve[-1].score)
    ]
    sign = next((each.sign for each in objectives if each.is_score), 1)
    rivals = [sign * other.curve[-1].score for other in finished if _costs_no_more(other, trial, objectives)]
    if last.step >= last.steps or not rivals:
        return True
    possible = ends(trial.curve, (other.curve for other in finished))
    return len(possible) == 0 or bool(np.mean(sign * possible >= max(rivals)) >= CHANCE)


def _costs_no_more(one: Trial, other: Trial, objectives: Sequence[Objective]) -> bool:
    return all(one.value(name) <= other.value(name) for name in cost_names(objectives))
