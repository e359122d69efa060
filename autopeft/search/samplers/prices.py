"""What candidates cost: exactly where it was predicted, and roughly, at once, for hundreds of others.

A prediction simulates a training step and takes a second; of the candidates that a sampler looks at only the best few
are worth that. The rest is estimated from all that was predicted before, by a model of logarithmic costs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from autopeft.errors import CannotAttach
from autopeft.search.samplers.features import Array, Described, describe, squared_distances
from autopeft.search.samplers.gaussian import conditioned, fitted
from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Recalled
from autopeft.space.space import Space
from autopeft.trial import Costs

_MATTERS = {"form": 1.0, "place": 2.0, "settings": 2.0, "batch": 3.0, "checkpointing": 1.5}
"""Groups of coordinates that costs depend on, and the differences in them that are expected to matter."""
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

    def estimated(self, candidates: Sequence[Described]) -> Array:
        """Of every candidate (candidates, names); something must be known."""
        known = [each for each in self._known.values() if each is not None][-_MOST:]
        described = [each for each, _ in known]
        values = np.array([logs for _, logs in known])
        groups = tuple(_MATTERS)
        within = squared_distances(described, described, groups)
        across = squared_distances(described, candidates, groups)
        if not self._lengths or len(known) >= _GROWN * self._fitted_on:
            expected = np.array(list(_MATTERS.values()))
            self._lengths = [fitted(within, column, expected) for column in values.T]
            self._fitted_on = len(known)
        columns = zip(values.T, self._lengths, strict=True)
        return np.stack([conditioned(within, each, lengths).predict(across)[0] for each, lengths in columns], axis=1)

    def _logs(self, costs: Costs) -> Array:
        return np.log1p([costs.value(name) for name in self.names])


def key_of(params: Mapping[str, Any]) -> object:
    """The same for the same draws."""
    return tuple(sorted(params.items()))
