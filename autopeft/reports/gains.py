"""Which trials are better than what needs no fine-tuning, by more than chance; nothing else is recommended. Pure.

Where it is known what every row is worth to both, they are compared row by row. Else they are weighed as if each had
rows of its own; they share their rows, which makes the difference surer than that. A member that was confirmed counts
with its mean over the further seeds, because chance helped to choose the score that it has in the search.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autopeft.confirmed import Confirmed, Spread, sign_flips
from autopeft.objectives import ACCURACY, Objective
from autopeft.trial import Answers, Baseline, SearchRecord, Trial

ERRORS = 1.645
"""Standard errors that a difference must exceed: chance alone does it once in 20 times."""
_EITHER = 1.96
"""The same where nobody says beforehand which one is to be the better."""
_CHANCE = 0.05


@dataclass(frozen=True)
class Shown:
    """What a trial showed on validation data: in the search, or with other seeds."""

    scores: Spread
    error: float | None
    """The standard error of a score for the choice of rows; None where nobody knows."""
    answers: Sequence[Answers]
    """Of each seed; empty where nobody kept them."""


def better(
    record: SearchRecord, trials: Iterable[Trial], baseline: Baseline | None, rows: int | None, sure: Confirmed | None
) -> tuple[Trial, ...]:
    """Those of these trials that beat a baseline by more than chance; all of them where there is none."""
    if baseline is None:
        return tuple(trials)
    again = _confirmed(record, sure)
    return tuple(
        trial
        for trial in trials
        if trial.score is not None
        and _beats(again.get(trial.number) or _searched(trial, trial.score), baseline, rows, record.metric)
    )


def _beats(shown: Shown, baseline: Baseline, rows: int | None, metric: Objective) -> bool:
    if (by_row := _by_row(shown, baseline, metric)) is not None:
        return exceeds_by_rows(by_row)
    if metric == ACCURACY:
        return exceeds(shown.scores, baseline.score, rows)
    return metric.sign * (shown.scores.mean - baseline.score) > ERRORS * _error_apart(shown, baseline)


def _by_row(shown: Shown, baseline: Baseline, metric: Objective) -> np.ndarray | None:
    """(seeds, rows) by how much more what was shown is worth, of the rows that the baseline answered; None where
    somebody did not keep that.
    """
    its = baseline.answers
    if not its or not its.are_whole or not shown.answers:
        return None
    if baseline.rows is None:
        if any(each.rows != its.rows for each in shown.answers):
            return None
        places = np.arange(its.rows)
    else:
        places = np.array(baseline.rows)
        if any(each.rows <= max(baseline.rows) for each in shown.answers):
            return None
    seeds = np.stack([each.of_rows[places] for each in shown.answers])
    return metric.sign * (seeds - its.of_rows)


def _error_apart(shown: Shown, baseline: Baseline) -> float:
    """Of a difference, as if both had rows of their own."""
    return math.sqrt(_own_variance(shown) + (baseline.error if math.isfinite(baseline.error) else 0.0) ** 2)


def _own_variance(shown: Shown) -> float:
    return (shown.error or 0.0) ** 2 + (shown.scores.deviation or 0.0) ** 2 / len(shown.scores.values)


@dataclass(frozen=True)
class Difference:
    """A trial and what it is compared with."""

    by: float
    """By how much the trial is better, whichever way the metric goes."""
    error: float
    """Its standard error."""
    is_sure: bool
    """Whether the better one is so by more than chance."""
    rows: int | None
    """On which both were compared row by row; None where each is taken to have rows of its own."""


def compared(record: SearchRecord, trial: Trial, baseline: Baseline, sure: Confirmed | None) -> Difference:
    """How far a trial, which has a score, is from a baseline."""
    shown = shown_by(record, trial, sure)
    by_row = _by_row(shown, baseline, record.metric)
    if by_row is None:
        by, error = record.metric.sign * (shown.scores.mean - baseline.score), _error_apart(shown, baseline)
        return Difference(by, error, abs(by) > ERRORS * error, None)
    is_sure = exceeds_by_rows(by_row) or exceeds_by_rows(-by_row)
    return Difference(float(by_row.mean()), math.sqrt(_variance(by_row)), is_sure, by_row.shape[1])


def shown_by(record: SearchRecord, trial: Trial, sure: Confirmed | None) -> Shown:
    """What a trial, which has a score, showed: with other seeds where it was confirmed, else in its search."""
    return _confirmed(record, sure).get(trial.number) or _searched(trial, trial.score or 0.0)


def between(one: Shown, other: Shown, metric: Objective, same_rows: bool) -> Difference:
    """How far one trial is ahead of another one, of whatever search: row by row where both answered the same rows."""
    rows = {each.rows for shown in (one, other) for each in shown.answers}
    if not (same_rows and one.answers and other.answers and len(rows) == 1):
        by = metric.sign * (one.scores.mean - other.scores.mean)
        error = math.hypot(*(math.sqrt(_own_variance(each)) for each in (one, other)))
        return Difference(by, error, 0 < _EITHER * error < abs(by), None)
    mine, its = (np.stack([each.of_rows for each in shown.answers]) for shown in (one, other))
    of_rows = metric.sign * (mine.mean(0) - its.mean(0))
    variance = float(of_rows.var()) / len(of_rows) + _of_seeds(mine.mean(1)) + _of_seeds(its.mean(1))
    by, error = float(of_rows.mean()), math.sqrt(variance)
    return Difference(by, error, abs(by) > _EITHER * error and sign_flips(of_rows) < _CHANCE, len(of_rows))


def exceeds_by_rows(differences: np.ndarray) -> bool:
    """Whether by how much (seeds, rows) are worth more is more than chance: the spread over rows and seeds, and signs
    that might as well be the other ones, which is what counts where rows are few.
    """
    of_rows = differences.mean(0)
    return float(of_rows.mean()) > ERRORS * math.sqrt(_variance(differences)) and sign_flips(of_rows) / 2 < _CHANCE


def _variance(differences: np.ndarray) -> float:
    """Of the mean of (seeds, rows): what the choice of rows does, and that of seeds."""
    of_rows, of_seeds = differences.mean(0), differences.mean(1)
    return float(of_rows.var()) / len(of_rows) + _of_seeds(of_seeds)


def _of_seeds(scores: np.ndarray) -> float:
    """What the choice of seeds adds to the variance of their mean."""
    return float(scores.var(ddof=1)) / len(scores) if len(scores) > 1 else 0.0


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


def _searched(trial: Trial, score: float) -> Shown:
    answers = trial.outcome.answers if trial.outcome else None
    return Shown(Spread((score,)), trial.error, [answers] if answers and answers.are_whole else [])


def _confirmed(record: SearchRecord, sure: Confirmed | None) -> Mapping[int, Shown]:
    """What the members showed with other seeds, unless some of them are of steps that nothing ships."""
    if sure is None or sure.of_earlier_steps:
        return {}
    found = {}
    for member in sure.members:
        if member.trial.share < 1:
            # Confirmations train it whole: they tell nothing of what the search has.
            continue
        mine = [each.validation for each in record.confirmations if each.number == member.trial.number]
        answers = [each for each in mine if each is not None and each.are_whole]
        error = math.sqrt(sum(each.error**2 for each in answers) / len(answers)) if answers else member.trial.error
        found[member.trial.number] = Shown(member.validation, error, answers)
    return found
