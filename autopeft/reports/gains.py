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
_CHANCE = 0.05


@dataclass(frozen=True)
class _Shown:
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


def _beats(shown: _Shown, baseline: Baseline, rows: int | None, metric: Objective) -> bool:
    if (by_row := _by_row(shown, baseline, metric)) is not None:
        return exceeds_by_rows(by_row)
    if metric == ACCURACY:
        return exceeds(shown.scores, baseline.score, rows)
    return metric.sign * (shown.scores.mean - baseline.score) > ERRORS * _error_apart(shown, baseline)


def _by_row(shown: _Shown, baseline: Baseline, metric: Objective) -> np.ndarray | None:
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


def _error_apart(shown: _Shown, baseline: Baseline) -> float:
    """Of a difference, as if both had rows of their own."""
    variance = (shown.error or 0.0) ** 2 + (baseline.error if math.isfinite(baseline.error) else 0.0) ** 2
    variance += (shown.scores.deviation or 0.0) ** 2 / len(shown.scores.values)
    return math.sqrt(variance)


@dataclass(frozen=True)
class Difference:
    """A trial and a baseline."""

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
    shown = _confirmed(record, sure).get(trial.number) or _searched(trial, trial.score or 0.0)
    by_row = _by_row(shown, baseline, record.metric)
    if by_row is None:
        by, error = record.metric.sign * (shown.scores.mean - baseline.score), _error_apart(shown, baseline)
        return Difference(by, error, abs(by) > ERRORS * error, None)
    is_sure = exceeds_by_rows(by_row) or exceeds_by_rows(-by_row)
    return Difference(float(by_row.mean()), math.sqrt(_variance(by_row)), is_sure, by_row.shape[1])


def exceeds_by_rows(differences: np.ndarray) -> bool:
    """Whether by how much (seeds, rows) are worth more is more than chance: the spread over rows and seeds, and signs
    that might as well be the other ones, which is what counts where rows are few.
    """
    of_rows = differences.mean(0)
    return float(of_rows.mean()) > ERRORS * math.sqrt(_variance(differences)) and sign_flips(of_rows) / 2 < _CHANCE


def _variance(differences: np.ndarray) -> float:
    """Of the mean of (seeds, rows): what the choice of rows does, and that of seeds."""
    of_rows, of_seeds = differences.mean(0), differences.mean(1)
    variance = float(of_rows.var()) / len(of_rows)
    return variance + (float(of_seeds.var(ddof=1)) / len(of_seeds) if len(of_seeds) > 1 else 0.0)


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


def _searched(trial: Trial, score: float) -> _Shown:
    answers = trial.outcome.answers if trial.outcome else None
    return _Shown(Spread((score,)), trial.error, [answers] if answers and answers.are_whole else [])


def _confirmed(record: SearchRecord, sure: Confirmed | None) -> Mapping[int, _Shown]:
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
        found[member.trial.number] = _Shown(member.validation, error, answers)
    return found
