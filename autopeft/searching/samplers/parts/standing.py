"""Where the trials of a search stand, kept up to date: each is looked at once when it has ended, so that a proposal
costs no more after thousands.

Of those that are being trained, what they show so far is looked at each time. Models take in the latest, the front and
what is varied the best of all.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import numpy as np

from autopeft.objectives import Objective
from autopeft.searching.extrapolation import Ended
from autopeft.searching.samplers.parts.features import Array, Described
from autopeft.searching.samplers.parts.gains import Result
from autopeft.searching.samplers.parts.prices import key_of
from autopeft.trial import Status, Trial

_MOST, _MOST_RUNNING = 300, 100
"""The latest trials that a model takes in without becoming slow, and those of them that are being trained; and the best
trials that are remembered.
"""
_UNSURE = 0.05
"""Standard deviation of a gain at the end where no others tell."""


@dataclass(frozen=True)
class Point:
    """A candidate and the logarithms of its costs."""

    params: Mapping[str, Any]
    described: Described
    costs: Array
    duration: float = 0.0
    """The logarithm of its seconds; 0 where nobody knows them, or asks."""


@dataclass(frozen=True)
class Scale:
    """Scores as gains over what is trivial, so that more is better and numbers mean the same for every metric."""

    sign: int
    trivial: float
    unit: float

    @classmethod
    def of(cls, score: Objective | None, trivial: float | None, seen: Sequence[float]) -> Self:
        """Fractions differ in their own units, from 0: with the majority class there, budgets that nothing fits yet are
        worth too little, and fewer good fronts are found. Of other metrics the worst score so far is trivial where no
        baseline is known, and a gain of 1 is that of the best so far.
        """
        if score is None or score.is_fraction:
            return cls(1 if score is None else score.sign, 0.0, 1.0)
        best, worst = (score.sign * choose(score.sign * each for each in seen) for choose in (max, min))
        trivial = worst if trivial is None else trivial
        return cls(score.sign, trivial, max(score.sign * (best - trivial), 0.0) or abs(best - worst) or 1.0)

    def of_score(self, score: float) -> float:
        return self.sign * (score - self.trivial) / self.unit


_Both = tuple[Trial, Point]


class Standing:
    """Hears of all trials before each proposal."""

    def __init__(
        self, point: Callable[[Trial], Point], size: int, score: Objective | None, trivial: float | None
    ) -> None:
        """`size` is the column of costs that counts trainable parameters."""
        self._point = point
        self._size = size
        self._score = score
        self._trivial = trivial
        self._heard = 0
        self._latest: deque[_Both] = deque(maxlen=_MOST)
        self._best: list[_Both] = []
        self._running: list[_Both] = []
        self._ended = Ended()
        self._span: tuple[float, ...] = ()
        """The least and the largest score at an end."""
        self._ended_well = 0
        self.tried: set[object] = set()
        """Keys of the draws of all that have ended."""

    def hear(self, told: Sequence[Trial]) -> None:
        """Trials that have ended are told in the same order each time."""
        ended = [trial for trial in told if trial.status is not Status.TRAINING]
        for trial in ended[self._heard :]:
            self._hear(_judged(trial))
        self._heard = len(ended)
        running = [_judged(trial) for trial in told if trial.status is Status.TRAINING and trial.curve]
        self._running = [(trial, self._point(trial)) for trial in running[-_MOST_RUNNING:]]
        if len(self._best) > _MOST:
            self._best = [self._best[at] for at in sorted(_by_rank(self._best, self._sign)[:_MOST])]

    @property
    def shown(self) -> int:
        """Trials that have shown something."""
        return self._ended_well + len(_sound(self._running))

    def results(self) -> list[Result]:
        """What the latest trials showed."""
        shown = (trial.curve[-1].score for trial, _ in _sound(self._running))
        scale = Scale.of(self._score, self._trivial, (*self._span, *shown))
        latest = [*self._latest][len(self._running) + len(self._latest) - _MOST :] if self._full else self._latest
        return [self._result(*both, scale) for both in chain(latest, self._running)]

    def best(self) -> list[Mapping[str, Any]]:
        """The draws of trials that did not fail, those first that the fewest others beat in everything."""
        both = [*self._best, *_sound(self._running)]
        return [both[at][1].params for at in _by_rank(both, self._sign)]

    def finished(self) -> list[Point]:
        """Those among which the front is."""
        return [point for trial, point in self._best if trial.status is Status.FINISHED]

    @property
    def _full(self) -> bool:
        return len(self._latest) + len(self._running) > _MOST

    @property
    def _sign(self) -> int:
        return 1 if self._score is None else self._score.sign

    def _hear(self, trial: Trial) -> None:
        self.tried.add(key_of(trial.params))
        if not trial.curve and trial.status is not Status.FAILED:
            return
        both = trial, self._point(trial)
        self._latest.append(both)
        if trial.status is Status.FAILED:
            return
        self._ended_well += 1
        self._best.append(both)
        scores = (*self._span, trial.curve[-1].score)
        self._span = min(scores), max(scores)
        if trial.status is Status.FINISHED:
            self._ended.add(trial.curve)

    def _result(self, trial: Trial, point: Point, scale: Scale) -> Result:
        """What a trial showed, beside trainings that have ended."""
        size = float(point.costs[self._size])
        if trial.status is Status.FAILED:
            return Result(point.described, size, -math.inf, 0.0)
        if self._score is None:
            return Result(point.described, size, 1.0, 0.0)
        if trial.status is Status.FINISHED:
            return Result(point.described, size, scale.of_score(trial.curve[-1].score), 0.0)
        possible = np.array([scale.of_score(score) for score in self._ended.ends(trial.curve)])
        if len(possible) == 0:
            return Result(point.described, size, scale.of_score(trial.curve[-1].score), _UNSURE)
        return Result(point.described, size, float(possible.mean()), float(possible.std()))


def _judged(trial: Trial) -> Trial:
    """As good as failed where its score cannot be reckoned with."""
    no_number = trial.curve and not math.isfinite(trial.curve[-1].score)
    return replace(trial, status=Status.FAILED) if no_number else trial


def _sound(both: Sequence[_Both]) -> list[_Both]:
    return [each for each in both if each[0].status is not Status.FAILED]


def _by_rank(both: Sequence[_Both], sign: int) -> list[int]:
    """Positions, those first that the fewest others beat in everything."""
    values = np.array([[-sign * trial.curve[-1].score, *point.costs] for trial, point in both])
    beaten = [int(((values <= row).all(axis=1) & (values < row).any(axis=1)).sum()) for row in values]
    return [int(at) for at in np.argsort(beaten, kind="stable")]
