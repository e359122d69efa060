"""What candidates cost: exactly where it was predicted, and roughly, at once, for hundreds of others.

A prediction simulates a training step and takes a second; of the candidates that a sampler looks at only the best few
are worth that. The rest is estimated from all that was predicted before, by a model of logarithmic costs: what a part
brings with it multiplies them, and trainable parameters are expected to grow with layers and sizes until predictions
say otherwise. Estimates tell how low and how high costs may be, so that whoever looks for cheap candidates, or for the
dearest, has those predicted that are hardly known yet.

Every trial teaches how long others take: where time is among the costs, it is told anew each time.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autopeft.errors import CannotAttach
from autopeft.objectives import TIME, time_of
from autopeft.searching.samplers.parts.features import Array, Described, Reference, describe
from autopeft.searching.samplers.parts.gaussian import Gaussian, conditioned, fitted
from autopeft.searching.samplers.parts.trend import Trend, trend_of
from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Recalled
from autopeft.space.space import Space
from autopeft.trial import Costs

_MATTERS = {"form": 1.0, "place": 2.0, "settings": 2.0, "batch": 3.0, "checkpointing": 1.5}
"""Groups of coordinates that what multiplies costs depends on, and the differences in them that are expected to matter.
"""
_LASTS = {"schedule": 1.5}
"""Further ones that seconds depend on."""
_LONGER = {("schedule", "epochs"): 2 * math.log(2), ("scale", "layers"): 0.4}
"""How the logarithm of seconds is expected to rise: with epochs in proportion, and less with layers, because data pass
through all of them anyway.
"""
_RIDGE = 0.02
"""Observations of no effect that each coordinate begins with."""
_MOST = 300
"""Predictions that an estimate rests on, the latest ones."""
_GROWN = 1.3
"""The model's lengths are looked for again when so many times as many predictions are known,"""
_LEARNS = 1.02
"""and what is known is looked at again when it is so many times as many: at first after each."""


@dataclass(frozen=True)
class _Known:
    """A candidate whose costs were predicted."""

    candidate: Candidate
    described: Described
    costs: Costs
    logs: Array


class Prices:
    """Logarithms of the named costs, by the draws that make a candidate; and of its seconds, where these are known."""

    def __init__(
        self,
        space: Space,
        names: Sequence[str],
        predict: Callable[[Candidate], Costs],
        seconds: Callable[[Candidate, Costs], float] | None = None,
    ) -> None:
        self.names = tuple(names)
        self._space = space
        self._predict = predict
        self._seconds = seconds
        self._time = self.names.index(TIME) if seconds is not None and TIME in self.names else None
        """The column that is told anew."""
        self._known: dict[object, _Known | None] = {}
        self._count = 0
        """Of those that can be attached."""
        self._latest: deque[_Known] = deque(maxlen=_MOST)
        self._span = np.full((2, len(self.names)), [[np.inf], [-np.inf]])
        self._costs = _Estimate(_MATTERS)
        self._durations = _Estimate(_MATTERS | _LASTS)

    def exact(self, params: Mapping[str, Any], costs: Costs | None = None) -> Array | None:
        """The costs, or None where the candidate cannot be attached; predicted unless they are given."""
        key = key_of(params)
        if key not in self._known:
            candidate = self._space.draw(Recalled(params))
            try:
                costs = costs or self._predict(candidate)
                described = describe(candidate, self._space.cards)
                self._remember(key, _Known(candidate, described, costs, self._logs(costs)))
            except CannotAttach:
                self._known[key] = None
        known = self._known[key]
        if known is None:
            return None
        self._reach(logs := self._now(known))
        return logs

    def duration(self, params: Mapping[str, Any]) -> float:
        """The logarithm of the seconds of a candidate whose costs are known exactly; 0 where nobody knows seconds."""
        known = self._known[key_of(params)]
        return 0.0 if known is None else self._lasts(known)

    def described(self, params: Mapping[str, Any]) -> Described:
        """A candidate whose costs are known exactly."""
        known = self._known[key_of(params)]
        assert known is not None, "what was trained could be attached"
        return known.described

    @property
    def span(self) -> Array:
        """The least and the largest of each that is known exactly: (2, names)."""
        return self._span

    def estimated(self, candidates: Sequence[Described]) -> tuple[Array, Array]:
        """Of every candidate, a standard deviation lower and higher than believed, each (candidates, names); something
        must be known.
        """
        slopes = [
            {("scale", "layers"): 1.0, ("scale", "size"): 1.0} if name == "trainable" else {} for name in self.names
        ]
        means, deviations = self._costs(self._count, self._latest, self._now, candidates, slopes)
        return means - deviations, means + deviations

    def durations(self, candidates: Sequence[Described]) -> Array:
        """What `duration` may be of every candidate: (candidates,)."""
        if self._seconds is None or not candidates:
            return np.zeros(len(candidates))
        lasts = [_LONGER]
        return self._durations(
            self._count, self._latest, lambda each: np.array([self._lasts(each)]), candidates, lasts
        )[0][:, 0]

    def _remember(self, key: object, known: _Known) -> None:
        self._known[key] = known
        self._count += 1
        self._latest.append(known)
        self._reach(known.logs)

    def _reach(self, logs: Array) -> None:
        """Costs span at least so far."""
        least, most = (np.where(np.isfinite(logs), logs, off) for off in (np.inf, -np.inf))
        self._span = np.stack([np.minimum(self._span[0], least), np.maximum(self._span[1], most)])

    def _now(self, known: _Known) -> Array:
        """The logarithms of its costs."""
        if self._time is None or self._seconds is None:
            return known.logs
        logs = known.logs.copy()
        logs[self._time] = np.log1p(time_of(self._seconds(known.candidate, known.costs)))
        return logs

    def _lasts(self, known: _Known) -> float:
        return 0.0 if self._seconds is None else math.log(self._seconds(known.candidate, known.costs))

    def _logs(self, costs: Costs) -> Array:
        return np.log1p([costs.value(name) for name in self.names])


class _Estimate:
    """Of values that a few candidates have, those of others: along a trend, and what is left from those nearby."""

    def __init__(self, matters: Mapping[str, float]) -> None:
        self._groups = tuple(matters)
        self._matters = np.array(list(matters.values()))
        self._lengths: list[Array] = []
        self._models: list[Gaussian] = []
        self._fitted_on = 0
        self._learned_from = 0

    def __call__(
        self,
        count: int,
        latest: Collection[_Known],
        value: Callable[[_Known], Array],
        candidates: Sequence[Described],
        slopes: Sequence[Mapping[tuple[str, str], float]],
    ) -> tuple[Array, Array]:
        """Means and standard deviations, each (candidates, columns), from the values (columns,) of the `latest` of so
        many; each column is expected to rise with named coordinates by its `slopes`. What an earlier version did not
        tell of a trial is infinite, and teaches nothing; where nothing else is known, all are 0.
        """
        if not self._models or count >= _LEARNS * self._learned_from:
            self._learn(count, latest, value, slopes)
        if not self._models:
            nothing = np.zeros((len(candidates), len(slopes)))
            return nothing, nothing
        trend = self._trend.at(
            np.concatenate([self._from.coordinates(candidates), self._scale.coordinates(candidates)], 1)
        )
        across = self._from.distances(candidates)
        means, deviations = (
            np.stack(each, axis=1) for each in zip(*(model.predict(across) for model in self._models), strict=True)
        )
        return means + trend, deviations

    def _learn(
        self,
        count: int,
        latest: Collection[_Known],
        value: Callable[[_Known], Array],
        slopes: Sequence[Mapping[tuple[str, str], float]],
    ) -> None:
        told = [(each.described, found) for each in latest if np.isfinite(found := value(each)).all()]
        if not told:
            return
        described, values = [each for each, _ in told], np.array([found for _, found in told])
        self._from, self._scale = Reference(described, self._groups), Reference(described, ("scale",))
        points = np.concatenate([self._from.coordinates(), self._scale.coordinates()], axis=1)
        named = [*self._from.named(), *self._scale.named()]
        expected = np.array([[column.get(name, 0.0) for column in slopes] for name in named])
        self._trend: Trend = trend_of(points, values, _RIDGE, expected)
        left, within = values - self._trend.at(points), self._from.distances()
        if not self._lengths or count >= _GROWN * self._fitted_on:
            self._lengths = [fitted(within, column, self._matters) for column in left.T]
            self._fitted_on = count
        columns = zip(left.T, self._lengths, strict=True)
        self._models = [conditioned(within, column, lengths) for column, lengths in columns]
        self._learned_from = count


def key_of(params: Mapping[str, Any]) -> object:
    """The same for the same draws."""
    return tuple(sorted(params.items()))
