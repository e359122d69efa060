"""Which trials are worth training on: early stopping that respects costs and seconds.

A trial goes on where it is expected to improve the front enough for the seconds that it still takes: each is to bring
at least a small part of what a second of the search has brought so far. Whoever has a certain budget of costs uses the
best that fits it; a trial improves that for all budgets that it fits, by as much as its end exceeds what they have. So
a cheap trial may end lower than a dear one; what repeats others is stopped, and what takes long for little.

Where rungs tell little of ends, expectations of them are no guide: a trial then goes on where, as those went on that
were nearest to it, it may well end above all that cost no more.

Ends are foretold from rungs (`foretelling`), by the latest trials. Work at a rung grows with the number of trials that
may be the best within some budget.

Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934) has the same rungs and promotes a fixed part of what
reaches them, whatever it costs and whether it matters. `benchmarks/stopping.py` compares rules.
"""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autopeft.objectives import Objective, cost_names
from autopeft.searching.extrapolation import ends
from autopeft.searching.foretelling import Array, foretold
from autopeft.searching.samplers.parts.improvement import budgets_between, expected_excess
from autopeft.trial import Costs, Rung, Status, Trial

ENOUGH = 0.15
"""What a second of a trial is to bring to the front, as a part of what a second of the search has brought so far."""
_MAY_BE = 3 / 8
"""The part of possible ends that has to reach what it competes with, where rungs tell little."""
_CHANCE = 2.0
"""Standard errors of a difference that are no chance any more."""
_LATEST = 300
"""Finished trials that tell of ends."""


class Stopping:
    """Remembers what there is to compare with, and decides."""

    def __init__(self, objectives: Sequence[Objective], trivial: float | None = None) -> None:
        """`trivial` is the score that anything has to beat, where that is known."""
        self._score = next((each for each in objectives if each.is_score), None)
        self._names = cost_names(objectives)
        self._trivial = trivial
        self._curves: deque[Sequence[Rung]] = deque(maxlen=_LATEST)
        self._rivals: list[Trial] = []
        self._low, self._high = np.full(len(self._names), np.inf), np.full(len(self._names), -np.inf)
        self._lowest = math.inf
        self._seconds: dict[int, float] = {}
        self._spent = 0.0

    def expect(self, costs: Costs) -> None:
        """The front is wanted for budgets as small and as large as what candidates cost."""
        known = np.log1p([costs.value(name) for name in self._names])
        known = np.where(np.isfinite(known), known, np.nan)
        self._low, self._high = np.fmin(self._low, known), np.fmax(self._high, known)

    def learn(self, trial: Trial) -> None:
        """What a trial has shown so far: at a rung, or when it has ended."""
        if not trial.curve:
            return
        last = trial.curve[-1]
        self._spent += last.seconds - self._seconds.get(trial.number, 0.0)
        self._seconds[trial.number] = last.seconds
        self.expect(trial.predicted)
        if trial.status is Status.FINISHED and all(math.isfinite(rung.score) for rung in trial.curve):
            self._curves.append(trial.curve)
            self._lowest = min(self._lowest, self._sign * last.score)
            if not any(self._beats(other, trial) for other in self._rivals):
                self._rivals = [other for other in self._rivals if not self._beats(trial, other)] + [trial]

    def goes_on(self, trial: Trial) -> bool:
        """Whether a trial that has just reached a rung, and was learned from, is trained on; the last rung is an end,
        not a decision.
        """
        here, last = len(trial.curve) - 1, trial.curve[-1]
        told = foretold(self._curves, here, self._sign)
        if last.step >= last.steps or told is None:
            return True
        if not told.tells_much and self._score is not None:
            return self._may_be_best(trial)
        gain, doubt, gains = 1.0, 0.0, np.ones(len(self._rivals))
        if self._score is not None:
            late = max(len(curve) for curve in self._curves) - 2
            surest = foretold(self._curves, late, self._sign) or told
            base = self._base()
            end, doubt = told.end(trial.curve, here, self._sign)
            gain = end - base
            gains = np.array([surest.worth(other.curve, late, self._sign) - base for other in self._rivals])
        budgets = budgets_between(np.nan_to_num([self._low, self._high], posinf=0, neginf=0), np.random.default_rng(0))
        have = np.where(self._fits(self._rivals, budgets), gains[:, None], 0.0).max(axis=0, initial=0.0)
        more = expected_excess(np.array(gain), np.array(doubt), have) * self._fits([trial], budgets)[0]
        remaining = last.seconds * (last.steps - last.step) / last.step
        return bool(more.mean() * self._spent >= ENOUGH * have.mean() * remaining)

    def _may_be_best(self, trial: Trial) -> bool:
        """Whether, as those went on that were nearest at the rung, it may well end above all that cost no more."""
        rivals = [self._sign * other.curve[-1].score for other in self._rivals if self._costs_no_more(other, trial)]
        possible = self._sign * ends(trial.curve, self._curves)
        return not rivals or bool(np.mean(possible >= max(rivals)) >= _MAY_BE)

    @property
    def _sign(self) -> int:
        return 1 if self._score is None else self._score.sign

    def _base(self) -> float:
        """What gains nothing: fractions count from 0, other scores from what is trivial, or the worst end so far."""
        if self._score is not None and self._score.is_fraction:
            return 0.0
        return self._lowest if self._trivial is None else self._sign * self._trivial

    def _fits(self, trials: Sequence[Trial], budgets: Array) -> NDArray[np.bool_]:
        """(trials, budgets)"""
        costs = np.log1p([[trial.value(name) for name in self._names] for trial in trials])
        costs = np.minimum(costs, np.nan_to_num(self._high, neginf=0))
        return np.asarray((costs[:, None] <= budgets[None]).all(axis=2))

    def _beats(self, one: Trial, other: Trial) -> bool:
        """At no higher costs, and by more than chance."""
        if not self._costs_no_more(one, other):
            return False
        ahead = self._sign * ((one.score or 0.0) - (other.score or 0.0))
        return self._score is None or ahead > _CHANCE * math.hypot(one.error or 0.0, other.error or 0.0)

    def _costs_no_more(self, one: Trial, other: Trial) -> bool:
        return all(one.value(name) <= other.value(name) for name in self._names)
