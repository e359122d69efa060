"""Which trials are better than what needs no fine-tuning, by more than chance; nothing else is recommended. Pure.

What a baseline answered row by row is not kept, so it and a trial are weighed as if each had rows of its own. They
share their rows, which makes the difference surer than that. A member that was confirmed counts with its mean over the
further seeds, because chance helped to choose the score that it has in the search.
"""

import math
from collections.abc import Iterable

from autopeft.confirmed import Confirmed, Spread
from autopeft.trial import Trial

ERRORS = 1.645
"""Standard errors that a difference must exceed: chance alone does it once in 20 times."""


def better(
    trials: Iterable[Trial], baseline: float | None, rows: int | None, sure: Confirmed | None
) -> tuple[Trial, ...]:
    """Those of these trials that beat a baseline by more than chance; all of them where there is none."""
    if baseline is None:
        return tuple(trials)
    again = _confirmed(sure)
    return tuple(
        trial
        for trial in trials
        if trial.accuracy is not None and exceeds(again.get(trial.number, Spread((trial.accuracy,))), baseline, rows)
    )


def exceeds(accuracy: Spread, baseline: float, rows: int | None) -> bool:
    """Whether an accuracy is greater than a baseline's by more than chance, each on this many rows of its own.

    The difference must exceed `ERRORS` times its standard error, a right and a wrong answer being added to both, so
    that few rows prove little (Agresti and Caffo, The American Statistician 54, 2000). The spread of several seeds
    adds to the error of their mean. Where nobody knows how many rows there were, every difference counts.
    """
    if rows is None:
        return accuracy.mean > baseline
    mine, its = (_with_one_right_and_one_wrong(each, rows) for each in (accuracy.mean, baseline))
    variance = (mine * (1 - mine) + its * (1 - its)) / (rows + 2)
    variance += (accuracy.deviation or 0.0) ** 2 / len(accuracy.values)
    return mine - its > ERRORS * math.sqrt(variance)


def _with_one_right_and_one_wrong(accuracy: float, rows: int) -> float:
    return (min(max(accuracy, 0.0), 1.0) * rows + 1) / (rows + 2)


def _confirmed(sure: Confirmed | None) -> dict[int, Spread]:
    """The members' accuracies with other seeds, unless some of them are of steps that nothing ships."""
    if sure is None or sure.of_earlier_steps:
        return {}
    return {member.trial.number: member.validation for member in sure.members}
