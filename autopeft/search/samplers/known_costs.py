"""A sampler for searches in which only the score is unknown: it believes in gains, and knows all costs.

Several hundred candidates, drawn at random, near good trials or known to be good, are weighed by what they may add to
the front at their costs (`improvement`), with their gain, and their chance not to fail, as Gaussian processes believe
them to be (`gains`). Costs are estimated first (`prices`); of the best few they are predicted, one by one
until none of the others seems better, and the best of these is proposed, which therefore keeps all limits. What may be
the dearest of all is predicted, too, because the front is wanted for all budgets up to there.

Compared with Optuna's samplers in `benchmarks/samplers.py`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from optuna.samplers import BaseSampler, RandomSampler

from autopeft.objectives import Objective, costs_of
from autopeft.search.extrapolation import ends
from autopeft.search.samplers.parts.drawing import Drawn
from autopeft.search.samplers.parts.features import Array, Described, describe
from autopeft.search.samplers.parts.gains import Gains, Result
from autopeft.search.samplers.parts.improvement import Improvement, budgets_between
from autopeft.search.samplers.parts.interface import Ground, Sampler
from autopeft.search.samplers.parts.prices import Prices, key_of
from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Recalled
from autopeft.space.space import Space
from autopeft.trial import Costs, Rung, Status, Trial

_ANEW, _NEAR = 200, 200
"""Candidates drawn at random, and near good trials."""
_CHANGED = (0.1, 0.25)
"""Chances of a value to be drawn again near a good trial."""
_PREDICTED, _MOST_PREDICTED = 4, 12
"""The most candidates that keep all limits and whose costs are predicted for one proposal; and that are tried."""
_UNSURE = 0.05
"""Standard deviation of a gain at the end where no others tell."""
_LEAST, _MOST_RESULTS = 3, 300
"""Trials before there is anything to model, and the latest ones that a model takes in without becoming slow."""


@dataclass(frozen=True)
class _Point:
    """A candidate and the logarithms of its costs."""

    params: Mapping[str, Any]
    described: Described
    costs: Array


@dataclass(frozen=True)
class _Scale:
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


def sampler(ground: Ground) -> Sampler:
    return KnownCosts(ground.space, ground.objectives, ground.predict, ground.limits, ground.seed, ground.trivial)


class KnownCosts:
    """Chooses whole candidates; Optuna's random sampler draws where there is nothing to go by."""

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        predict: Callable[[Candidate], Costs],
        limits: Mapping[str, float],
        seed: int,
        trivial: float | None = None,
    ) -> None:
        self.optuna: BaseSampler = RandomSampler(seed=seed)
        self._space = space
        self._predict = predict
        self._seed = seed
        self._score = next((each for each in objectives if each.is_score), None)
        self._trivial = trivial
        self._costs = costs_of(objectives)
        self._prices = Prices(space, self._priced(limits), predict)
        self._known_good: Sequence[Mapping[str, Any]] = ()
        self.keep(limits)

    begins_with = _LEAST
    """Whether further known good candidates would add most is for the model to say."""

    def consider(self, known_good: Sequence[Mapping[str, Any]]) -> None:
        """They are among what is weighed each time, and their costs tell of others'."""
        self._known_good = known_good

    def keep(self, limits: Mapping[str, float]) -> None:
        """All limits on costs that hold from now on."""
        names = self._priced(limits)
        if names != self._prices.names:
            self._prices = Prices(self._space, names, self._predict)
        self._size = names.index("trainable")
        self._objectives = [names.index(name) for name in self._costs]
        self._limits = np.log1p([limits.get(name, np.inf) for name in names])

    def choose(self, told: Sequence[Trial], pending: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Known good ones until there are enough results; None where nothing new may be trained."""
        told = [replace(each, status=Status.FAILED) if _is_no_number(each) else each for each in told]
        trials = [trial for trial in told if trial.curve or trial.status is Status.FAILED]
        tried = {key_of(params) for params in (*(trial.params for trial in told), *pending)}
        if sum(trial.status is not Status.FAILED for trial in trials) < _LEAST:
            untried = (params for params in self._known_good if key_of(params) not in tried)
            return next((params for params in untried if self._affordable(params) is not None), None)
        rng = np.random.default_rng((self._seed, len(told), len(pending)))
        seen = [self._point(trial.params, self._prices.exact(trial.params, trial.predicted)) for trial in trials]
        awaited = [
            self._point(params, costs) for params in pending if (costs := self._prices.exact(params)) is not None
        ]
        ended = [trial.curve for trial in trials if trial.status is Status.FINISHED]
        gain = _Scale.of(
            self._score, self._trivial, [trial.curve[-1].score for trial in trials if trial.status is not Status.FAILED]
        )
        results = [self._result(*both, ended, gain) for both in zip(trials, seen, strict=True)][-_MOST_RESULTS:]
        for params in self._known_good:
            self._prices.exact(params)
        gains = Gains(results, self._sized(awaited))
        options = self._options(_by_rank(trials, seen, gain), tried, rng)
        if not options:
            return None
        front = [point for trial, point in zip(trials, seen, strict=True) if trial.status is Status.FINISHED] + awaited
        improvement = Improvement(
            self._aims(front),
            gains.believed(self._sized(front))[0],
            budgets_between(self._range()[:, self._objectives], rng),
        )

        def worth(points: Sequence[_Point]) -> Array:
            sized = self._sized(points)
            return gains.survive(sized) * improvement.of(self._aims(points), *gains.believed(sized))

        seeming = worth(options)
        shortlist = np.argsort(-seeming, kind="stable")[:_MOST_PREDICTED]
        best = self._best([options[at] for at in shortlist], seeming[shortlist], worth)
        return None if best is None else best.params

    def _priced(self, limits: Mapping[str, float]) -> tuple[str, ...]:
        """The costs that matter."""
        return tuple(dict.fromkeys(("trainable", *self._costs, *limits)))

    def _options(
        self, parents: Sequence[Mapping[str, Any]], tried: set[object], rng: np.random.Generator
    ) -> list[_Point]:
        """New candidates that seem to keep all limits, with estimated costs."""
        drawn = {key_of(params): (params, candidate) for params, candidate in self._drawn(parents, rng)}
        kept = [
            (params, describe(each, self._space.cards)) for key, (params, each) in drawn.items() if key not in tried
        ]
        least, most = self._prices.estimated([described for _, described in kept])
        self._predict_dearest([params for params, _ in kept], most)
        points = [_Point(params, described, row) for (params, described), row in zip(kept, least, strict=True)]
        return [point for point in points if (point.costs <= self._limits).all()]

    def _drawn(
        self, parents: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> Iterator[tuple[Mapping[str, Any], Candidate]]:
        for _ in range(_ANEW):
            draws = Drawn(rng)
            yield draws.drawn, self._space.draw(draws)
        for number in range(_NEAR):
            at = min(int(rng.exponential(len(parents) / 4)), len(parents) - 1)
            draws = Drawn(rng, parents[at], _CHANGED[number % len(_CHANGED)])
            yield draws.drawn, self._space.draw(draws)
        for kind in (*self._space.methods, *self._space.hybrids):
            draws = Drawn(rng, {**parents[0], "method": kind}, 0.0)
            yield draws.drawn, self._space.draw(draws)
        for params in self._known_good:
            yield params, self._space.draw(Recalled(params))

    def _predict_dearest(self, candidates: Sequence[Mapping[str, Any]], most: Array) -> None:
        """Predicts what may cost more than all that is known, so that budgets reach as far as candidates do."""
        for cost in self._objectives:
            at = int(np.argmax(most[:, cost]))
            if self._range()[:, cost].max() < min(most[at, cost], self._limits[cost]):
                self._prices.exact(candidates[at])

    def _range(self) -> Array:
        """The costs that are known, none above its limit: (candidates, names)."""
        return np.minimum(self._prices.known(), self._limits)

    def _best(
        self, points: Sequence[_Point], seeming: Array, worth: Callable[[Sequence[_Point]], Array]
    ) -> _Point | None:
        """The one worth most at exact costs; `points` are in the order of what they seem worth at estimated ones."""
        best, most, predicted = None, -np.inf, 0
        for point, value in zip(points, seeming, strict=True):
            if predicted == _PREDICTED or most >= value:
                break
            costs = self._affordable(point.params)
            if costs is None:
                continue
            predicted += 1
            exact = _Point(point.params, point.described, costs)
            if (own := float(worth([exact])[0])) > most:
                best, most = exact, own
        return best

    def _affordable(self, params: Mapping[str, Any]) -> Array | None:
        """The exact costs of what can be attached and keeps all limits; None of anything else."""
        costs = self._prices.exact(params)
        return None if costs is None or (costs > self._limits).any() else costs

    def _point(self, params: Mapping[str, Any], costs: Array | None) -> _Point:
        assert costs is not None, "what was trained could be attached"
        return _Point(params, describe(self._space.draw(Recalled(params)), self._space.cards), costs)

    def _result(self, trial: Trial, point: _Point, ended: Sequence[Sequence[Rung]], gain: _Scale) -> Result:
        """What a trial showed, beside trainings that have ended."""
        size = float(point.costs[self._size])
        if trial.status is Status.FAILED:
            return Result(point.described, size, -math.inf, 0.0)
        if self._score is None:
            return Result(point.described, size, 1.0, 0.0)
        if trial.status is Status.FINISHED:
            return Result(point.described, size, gain.of_score(trial.curve[-1].score), 0.0)
        possible = np.array([gain.of_score(score) for score in ends(trial.curve, ended)])
        if len(possible) == 0:
            return Result(point.described, size, gain.of_score(trial.curve[-1].score), _UNSURE)
        return Result(point.described, size, float(possible.mean()), float(possible.std()))

    def _sized(self, points: Sequence[_Point]) -> list[tuple[Described, float]]:
        return [(point.described, float(point.costs[self._size])) for point in points]

    def _aims(self, points: Sequence[_Point]) -> Array:
        """Costs that are objectives: (points, costs)."""
        values = np.array([point.costs for point in points]).reshape(len(points), len(self._limits))
        return values[:, self._objectives]


def _is_no_number(trial: Trial) -> bool:
    """Whether a trial is as good as failed: its score cannot be reckoned with."""
    return bool(trial.curve) and not math.isfinite(trial.curve[-1].score)


def _by_rank(trials: Sequence[Trial], points: Sequence[_Point], gain: _Scale) -> list[Mapping[str, Any]]:
    """The draws of trials that did not fail, those first that the fewest others beat in everything."""
    both = [(trial, point) for trial, point in zip(trials, points, strict=True) if trial.status is not Status.FAILED]
    values = np.array([[-gain.of_score(trial.curve[-1].score), *point.costs] for trial, point in both])
    beaten = [int(((values <= row).all(axis=1) & (values < row).any(axis=1)).sum()) for row in values]
    return [both[at][1].params for at in np.argsort(beaten, kind="stable")]
