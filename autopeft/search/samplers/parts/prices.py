"""What candidates cost: exactly where it was predicted, and roughly, at once, for hundreds of others.

A prediction simulates a training step and takes a second; of the candidates that a sampler looks at only the best few
are worth that. The rest is estimated from all that was predicted before, by a model of logarithmic costs: what a part
brings with it multiplies them, and trainable parameters are expected to grow with layers and sizes until predictions
say otherwise. Estimates tell how low and how high costs may be, so that whoever looks for cheap candidates, or for the
dearest, has those predicted that are hardly known yet.
"""

from collections.abc import Callable, Mapping, Sequence
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
_MULTIPLY = (*_MATTERS, "scale")
"""Groups of coordinates by which costs are multiplied."""
_RIDGE = 0.02
"""Observations of no effect that each coordinate begins with."""
_MOST = 300
"""Predictions that an estimate rests on, the latest ones."""
_GROWN = 1.3
"""The model's lengths are looked for again when so many times as many predictions are known."""


class Prices:
    """Logarithms of the named costs, by the draws that make a candidate."""

    def __init__(self, space: Space, names: Sequence[str], predict: Callable[[Candidate], Costs]) -> None:
        self.names = tuple(names)
        self._space = space
        self._predict = predict
        self._known: dict[object, tuple[Described, Array] | None] = {}
        self._lengths: list[Array] = []
        self._fitted_on = 0

    def exact(self, params: Mapping[str, Any], costs: Costs | None = None) -> Array | None:
        """The costs, or None where the candidate cannot be attached; predicted unless they are given."""
        key = key_of(params)
        if key not in self._known:
            candidate = self._space.draw(Recalled(params))
            try:
                costs = costs or self._predict(candidate)
                self._known[key] = describe(candidate, self._space.cards), self._logs(costs)
            except CannotAttach:
                self._known[key] = None
        known = self._known[key]
        return None if known is None else known[1]

    def known(self) -> Array:
        """All that are known exactly: (candidates, names)."""
        return np.array([each[1] for each in self._known.values() if each is not None])

    def estimated(self, candidates: Sequence[Described]) -> tuple[Array, Array]:
        """Of every candidate, a standard deviation lower and higher than believed, each (candidates, names); something
        must be known.
        """
        described = [each[0] for each in self._known.values() if each is not None][-_MOST:]
        values = self.known()[-_MOST:]
        trend = self._trend([*described, *candidates], values)
        left = values - trend[: len(values)]
        groups = tuple(_MATTERS)
        within = squared_distances(described, described, groups)
        across = squared_distances(described, candidates, groups)
        if not self._lengths or len(values) >= _GROWN * self._fitted_on:
            expected = np.array(list(_MATTERS.values()))
            self._lengths = [fitted(within, column, expected) for column in left.T]
            self._fitted_on = len(values)
        columns = zip(left.T, self._lengths, strict=True)
        believed = [conditioned(within, column, lengths).predict(across) for column, lengths in columns]
        means, deviations = (np.stack(each, axis=1) for each in zip(*believed, strict=True))
        means += trend[len(values) :]
        return means - deviations, means + deviations

    def _trend(self, described: Sequence[Described], values: Array) -> Array:
        """Linear in all coordinates, of every candidate (candidates, names); the first of them have these values."""
        grouped = [coordinates(described, group) for group in _MULTIPLY]
        points = np.concatenate(grouped, axis=1)
        scale = grouped[-1].shape[1]
        slopes = np.zeros((points.shape[1], values.shape[1]))
        slopes[-scale:, [name == "trainable" for name in self.names]] = 1.0
        return trend_of(points[: len(values)], values, _RIDGE, slopes).at(points)

    def _logs(self, costs: Costs) -> Array:
        return np.log1p([costs.value(name) for name in self.names])


def key_of(params: Mapping[str, Any]) -> object:
    """The same for the same draws."""
    return tuple(sorted(params.items()))
