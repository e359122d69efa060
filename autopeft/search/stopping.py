"""Which trials are worth training on: asynchronous successive halving that respects costs. Pure.

At a rung a trial is compared only with trials that cost no more than it does in every objective known before training:
a dearer one may be better for its price, and a cheaper one is on the front whatever its accuracy. Of those it must be
among the best third, or behind them by no more than chance explains (Li et al. 2020, arXiv:1810.05934, Algorithm 2,
with promotion decided on arrival; the comparison by costs and the allowance for chance are ours).
"""

import math
from collections.abc import Iterable, Sequence

from autopeft.trial import Status, Trial

REDUCTION = 3
"""One trial in so many goes on."""


def goes_on(trial: Trial, others: Iterable[Trial], objectives: Sequence[str], rows: int) -> bool:
    """Whether a trial that has just reached a rung is trained on.

    `rows` is the size of the validation split, which says how much of a difference may be chance. The last rung is an
    end, not a decision, and what failed is no measure.
    """
    here = len(trial.curve) - 1
    last = trial.curve[here]
    if last.step >= last.steps:
        return True
    peers = [
        other.curve[here].accuracy
        for other in others
        if other.number != trial.number
        and other.status is not Status.FAILED
        and len(other.curve) > here
        and _costs_no_more(other, trial, objectives)
    ]
    kept = (len(peers) + 1) // REDUCTION
    if kept == 0:
        return True
    cutoff = sorted([*peers, last.accuracy], reverse=True)[kept - 1]
    return last.accuracy >= cutoff - by_chance(cutoff, rows)


def by_chance(accuracy: float, rows: int) -> float:
    """The standard error of the difference between two accuracies near this one, sqrt(2 p (1 - p) / n)."""
    return math.sqrt(max(0.0, 2 * accuracy * (1 - accuracy)) / max(rows, 1))


def _costs_no_more(one: Trial, other: Trial, objectives: Sequence[str]) -> bool:
    return all(one.value(name) <= other.value(name) for name in objectives if name != "accuracy")
