"""What candidates cost: exactly where it was predicted, and roughly, at once, for hundreds of others.

A prediction simulates a training step and takes a second; of the candidates that a sampler looks at only the best few
are worth that. The rest is estimated from all that was predicted before, by a model of logarithmic costs: what a part
brings with it multiplies them, and trainable parameters are expected to grow with layers and sizes until predictions
say otherwise. Estimates tell how low and how high costs may be, so that whoever looks for cheap candidates, or for the
dearest, has those predicted that are hardly known yet.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autopeft.errors import CannotAttach
from autopeft.search.samplers.parts.features import Array, Described, coordinates, describe, squared_distances
from autopeft.search.samplers.parts.gaussian import conditioned, fitted
from autopeft.search.samplers.parts.trend import trend_of
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
"""The model's lengths are looked for again when so many times as many predictions are known."""


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
        self._known: dict[object, _Known | None] = {}
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
                self._known[key] = _Known(candidate, described, costs, self._logs(costs))
            except CannotAttach:
                self._known[key] = None
        known = self._known[key]
        return None if known is None else known.logs

    def duration(self, params: Mapping[str, Any]) -> float:
        """The logarithm of the seconds of a candidate whose costs are known exactly; 0 where nobody knows seconds."""
        known = self._known[key_of(params)]
        return 0.0 if known is None else self._lasts(known)

    def known(self) -> Array:
        """All that are known exactly: (candidates, names)."""
        return np.array([each.logs for each in self._all()])

    def estimated(self, candidates: Sequence[Described]) -> tuple[Array, Array]:
        """Of every candidate, a standard deviation lower and higher than believed, each (candidates, names); something
        must be known.
        """
        known = self._all()[-_MOST:]
        slopes = [
            {("scale", "layers"): 1.0, ("scale", "size"): 1.0} if name == "trainable" else {} for name in self.names
        ]
        values = np.array([each.logs for each in known])
        means, deviations = self._costs([each.described for each in known], values, candidates, slopes)
        return means - deviations, means + deviations

    def durations(self, candidates: Sequence[Described]) -> Array:
        """What `duration` may be of every candidate: (candidates,)."""
        if self._seconds is None or not candidates:
            return np.zeros(len(candidates))
        known = self._all()[-_MOST:]
        values = np.array([[self._lasts(each)] for each in known])
        return self._durations([each.described for each in known], values, candidates, [_LONGER])[0][:, 0]

    def _all(self) -> list[_Known]:
        return [each for each in self._known.values() if each is not None]

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
        self._fitted_on = 0

    def __call__(
        self,
        known: Sequence[Described],
        values: Array,
        candidates: Sequence[Described],
        slopes: Sequence[Mapping[tuple[str, str], float]],
    ) -> tuple[Array, Array]:
        """Means and standard deviations, each (candidates, columns), from `values` (known, columns); each column is
        expected to rise with named coordinates by its `slopes`.
        """
        trend = self._trend([*known, *candidates], values, slopes)
        left = values - trend[: len(values)]
        within = squared_distances(known, known, self._groups)
        across = squared_distances(known, candidates, self._groups)
        if not self._lengths or len(values) >= _GROWN * self._fitted_on:
            self._lengths = [fitted(within, column, self._matters) for column in left.T]
            self._fitted_on = len(values)
        columns = zip(left.T, self._lengths, strict=True)
        believed = [conditioned(within, column, lengths).predict(across) for column, lengths in columns]
        means, deviations = (np.stack(each, axis=1) for each in zip(*believed, strict=True))
        return means + trend[len(values) :], deviations

    def _trend(
        self, described: Sequence[Described], values: Array, slopes: Sequence[Mapping[tuple[str, str], float]]
    ) -> Array:
        """Linear in all coordinates, of every candidate (candidates, columns); the first of them have these values."""
        points, named = [], list[tuple[str, str]]()
        for group in (*self._groups, "scale"):
            columns = coordinates(described, group)
            points.append(columns[1])
            named += [(group, name) for name in columns[0]]
        expected = np.array([[column.get(name, 0.0) for column in slopes] for name in named])
        every = np.concatenate(points, axis=1)
        return trend_of(every[: len(values)], values, _RIDGE, expected).at(every)


def key_of(params: Mapping[str, Any]) -> object:
    """The same for the same draws."""
    return tuple(sorted(params.items()))
