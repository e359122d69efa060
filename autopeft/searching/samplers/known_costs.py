"""A sampler for searches in which only the score is unknown: it believes in gains, and knows all costs.

Several hundred candidates, drawn at random, near good trials or known to be good, are weighed by what they may add to
the front at their costs (`improvement`), with their gain, and their chance not to fail, as Gaussian processes believe
them to be (`gains`). Costs are estimated first (`prices`); of the best few they are predicted, one by one
until none of the others seems better, and the best of these is proposed, which therefore keeps all limits. What may be
the dearest of all is predicted, too, because the front is wanted for all budgets up to there.

Where seconds can be told beforehand, what a candidate may add is divided by them: altogether at first (Snoek et al.
2012, arXiv:1206.2944), and less and less as the search's trials or time are spent (Lee et al. 2020, arXiv:2003.10870),
because what is slow and good is worth its time, but after what is quick and good.

Compared with Optuna's samplers in `benchmarks/samplers.py`.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler, RandomSampler

from autopeft.objectives import cost_names
from autopeft.searching.samplers.parts.drawing import Drawn
from autopeft.searching.samplers.parts.features import Array, Described, describe
from autopeft.searching.samplers.parts.gains import Gains, Lengths
from autopeft.searching.samplers.parts.improvement import Improvement, budgets_between, for_their_seconds
from autopeft.searching.samplers.parts.interface import Ground, Sampler
from autopeft.searching.samplers.parts.prices import Prices, key_of
from autopeft.searching.samplers.parts.standing import Point, Standing
from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Recalled
from autopeft.trial import Trial

_ANEW, _NEAR = 200, 200
"""Candidates drawn at random, and near good trials."""
_CHANGED = (0.1, 0.25)
"""Chances of a value to be drawn again near a good trial."""
_PREDICTED, _MOST_PREDICTED = 4, 12
"""The most candidates that keep all limits and whose costs are predicted for one proposal; and that are tried."""
_LEAST = 3
"""Trials before there is anything to model."""
_GROWN = 1.05
"""What matters is looked for again when there are so many times as many trials: at first after each."""
_PENDING_FOR_ONE_MORE, _MOST_PENDING = 4, 256
"""For each so many that are pending one more is proposed together with the next; and the latest that are awaited."""
_BOTH_ENDS = 5
"""Known good candidates that begin where seconds are known: three of the front's good end, and two quick ones."""
_UNLIMITED = 0.3
"""Budgets that limit nothing, for each that does: people look first at what is best, whatever it costs."""


def sampler(ground: Ground) -> Sampler:
    return KnownCosts(ground)


class KnownCosts:
    """Chooses whole candidates; Optuna's random sampler draws where there is nothing to go by."""

    def __init__(self, ground: Ground) -> None:
        self.optuna: BaseSampler = RandomSampler(seed=ground.seed)
        self._ground = ground
        self._space = ground.space
        self._score = next((each for each in ground.objectives if each.is_score), None)
        self._costs = cost_names(ground.objectives)
        self._known_good: Sequence[Mapping[str, Any]] = ()
        self._chosen: deque[Mapping[str, Any]] = deque()
        self._lengths: Lengths | None = None
        self._fitted_on = 0
        self._look_anew(ground.limits)
        self.keep(ground.limits)

    @property
    def begins_with(self) -> int:
        """Whether further known good candidates would add most is for the model to say."""
        return _LEAST if self._ground.seconds is None else _BOTH_ENDS

    def consider(self, known_good: Sequence[Mapping[str, Any]]) -> None:
        """They are among what is weighed each time, and their costs tell of others'."""
        self._known_good = known_good
        self._chosen.clear()

    def keep(self, limits: Mapping[str, float]) -> None:
        """All limits on costs that hold from now on."""
        names = self._priced(limits)
        if names != self._prices.names:
            self._look_anew(limits)
        self._size = names.index("trainable")
        self._objectives = [names.index(name) for name in self._costs]
        self._limits = np.log1p([limits.get(name, np.inf) for name in names])
        self._chosen.clear()

    def choose(self, told: Sequence[Trial], pending: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Known good ones until there are enough results; None where nothing new may be trained."""
        if not self._chosen:
            self._chosen.extend(self._choose(told, pending))
        return self._chosen.popleft() if self._chosen else None

    def _choose(self, told: Sequence[Trial], pending: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The next, and where many are pending, some more: they are known as little as what is pending, and are
        proposed together at the costs of one.
        """
        self._standing.hear(told)
        tried = self._standing.tried | {key_of(params) for params in pending}
        if self._standing.shown < _LEAST:
            untried = (params for params in self._known_good if key_of(params) not in tried)
            return [*islice((params for params in untried if self._affordable(params) is not None), 1)]
        rng = np.random.default_rng((self._ground.seed, len(told), len(pending)))
        awaited = [
            Point(params, self._prices.described(params), costs)
            for params in pending[-_MOST_PENDING:]
            if (costs := self._prices.exact(params)) is not None
        ]
        gains = self._gains(len(told), awaited)
        for params in self._known_good:
            self._prices.exact(params)
        options = self._options(self._standing.best(), tried, rng)
        if not options:
            return []
        front = [*self._standing.finished(), *awaited]
        improvement = Improvement(self._aims(front), gains.judged(self._sized(front)).means, self._budgets(rng))
        return self._together(options, gains, improvement, 1 + len(pending) // _PENDING_FOR_ONE_MORE)

    def _together(
        self, options: Sequence[Point], gains: Gains, improvement: Improvement, most: int
    ) -> Sequence[Mapping[str, Any]]:
        """So many, the best first; each is awaited when the next is chosen, so that none repeats another.

        What an option is worth only falls while others are awaited: so those are looked at again that seem best.
        """
        spent = self._ground.spent()

        def worth(points: Sequence[Point]) -> Array:
            means, deviations, chances = gains.judged(self._sized(points))
            adds = chances * improvement.of(self._aims(points), means, deviations)
            return for_their_seconds(adds, np.array([point.duration for point in points]), spent)

        options, exact, chosen = [*options], set[int](), list[Mapping[str, Any]]()
        seeming = worth(options)
        fresh = np.ones(len(options), dtype=bool)
        while len(chosen) < most:
            shortlist = np.argsort(-seeming, kind="stable")[:_MOST_PREDICTED]
            if len(stale := shortlist[~fresh[shortlist]]):
                seeming[stale], fresh[stale] = worth([options[at] for at in stale]), True
                continue
            best = self._best(options, seeming, shortlist.tolist(), exact, worth)
            if best is None:
                break
            taken = [options[best]]
            chosen.append(taken[0].params)
            improvement.take(self._aims(taken), gains.judged(self._sized(taken)).means)
            gains.await_(self._sized(taken))
            seeming[best] = -np.inf
            fresh = np.isneginf(seeming)
        return chosen

    def _best(
        self,
        options: list[Point],
        seeming: Array,
        shortlist: Sequence[int],
        exact: set[int],
        worth: Callable[[Sequence[Point]], Array],
    ) -> int | None:
        """Where the one stands that is worth most at exact costs; the shortlist is in the order of what they seem worth
        at estimated ones. What is predicted takes the place of what was estimated.
        """
        best, most, predicted = None, -np.inf, 0
        for at in shortlist:
            if predicted == _PREDICTED or most >= seeming[at]:
                break
            if at not in exact:
                costs = self._affordable(options[at].params)
                if costs is None:
                    seeming[at] = -np.inf
                    continue
                predicted += 1
                exact.add(at)
                options[at] = replace(options[at], costs=costs, duration=self._prices.duration(options[at].params))
                (seeming[at],) = worth([options[at]])
            if seeming[at] > most:
                best, most = at, float(seeming[at])
        return best

    def _gains(self, count: int, awaited: Sequence[Point]) -> Gains:
        """What matters is looked for again when there are enough more trials to tell otherwise."""
        if self._lengths is not None and count >= _GROWN * self._fitted_on:
            self._lengths = None
        gains = Gains(self._standing.results(), self._sized(awaited), self._lengths)
        if gains.lengths is not self._lengths:
            self._lengths, self._fitted_on = gains.lengths, count
        return gains

    def _look_anew(self, limits: Mapping[str, float]) -> None:
        """At all trials, by other costs."""
        self._prices = Prices(self._space, self._priced(limits), self._ground.predict, self._ground.seconds)
        size = self._prices.names.index("trainable")
        self._standing = Standing(self._of_trial, size, self._score, self._ground.trivial)

    def _budgets(self, rng: np.random.Generator) -> Array:
        """For all of which the front is wanted, as logarithms."""
        costs = self._range()[:, self._objectives]
        budgets = budgets_between(costs, rng)
        if self._ground.seconds is None:
            return budgets
        unlimited = np.repeat(costs.max(axis=0)[None], round(_UNLIMITED * len(budgets)), axis=0)
        return np.concatenate([budgets, unlimited])

    def _priced(self, limits: Mapping[str, float]) -> tuple[str, ...]:
        """The costs that matter."""
        return tuple(dict.fromkeys(("trainable", *self._costs, *limits)))

    def _options(
        self, parents: Sequence[Mapping[str, Any]], tried: set[object], rng: np.random.Generator
    ) -> list[Point]:
        """New candidates that seem to keep all limits, with estimated costs."""
        drawn = {key_of(params): (params, candidate) for params, candidate in self._drawn(parents, rng)}
        kept = [
            (params, describe(each, self._space.cards)) for key, (params, each) in drawn.items() if key not in tried
        ]
        every = [described for _, described in kept]
        least, most = self._prices.estimated(every)
        durations = self._prices.durations(every)
        self._predict_dearest([params for params, _ in kept], most)
        points = [Point(*each, *known) for each, *known in zip(kept, least, durations, strict=True)]
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
        """The least and the largest costs that are known, none above its limit: (2, names)."""
        return np.minimum(self._prices.span, self._limits)

    def _affordable(self, params: Mapping[str, Any]) -> Array | None:
        """The exact costs of what can be attached and keeps all limits; None of anything else."""
        costs = self._prices.exact(params)
        return None if costs is None or (costs > self._limits).any() else costs

    def _of_trial(self, trial: Trial) -> Point:
        costs = self._prices.exact(trial.params, trial.predicted)
        assert costs is not None, "what was trained could be attached"
        return Point(trial.params, self._prices.described(trial.params), costs)

    def _sized(self, points: Sequence[Point]) -> list[tuple[Described, float]]:
        return [(point.described, float(point.costs[self._size])) for point in points]

    def _aims(self, points: Sequence[Point]) -> Array:
        """Costs that are objectives: (points, costs)."""
        values = np.array([point.costs for point in points]).reshape(len(points), len(self._limits))
        return values[:, self._objectives]
