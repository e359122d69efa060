"""Draws candidates at random, anew or near one that is known to be good."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from autopeft.space.candidate import Value
from autopeft.space.parameters import Parameter, label

_STEP = 0.15
"""Standard deviation of a step within a range, as a fraction of the range."""


class Drawn:
    """Draws uniformly (where a range is logarithmic, its logarithm); near a parent, most values are the parent's.

    `changed` is the chance of a value to be drawn again; a number of a range then moves by a small step. What the
    parent lacks, because it is another method, begins at its default.
    """

    def __init__(self, rng: np.random.Generator, parent: Mapping[str, Any] | None = None, changed: float = 1.0) -> None:
        self._rng = rng
        self._parent = parent
        self._changed = changed
        self.drawn: dict[str, Any] = {}

    def draw(self, name: str, parameter: Parameter) -> Value:
        value = self._near(name, parameter) if self._parent is not None else self._anew(parameter)
        self.drawn[name] = label(value)
        return value

    def _near(self, name: str, parameter: Parameter) -> Value:
        assert self._parent is not None
        known = parameter.value_of(self._parent[name]) if name in self._parent else parameter.default
        if self._rng.random() >= self._changed:
            return known
        if parameter.low is None or parameter.high is None:
            return self._anew(parameter)
        low, high = _scaled(parameter.low, parameter), _scaled(parameter.high, parameter)
        at = _scaled(float(str(known)), parameter) + self._rng.normal(0, _STEP) * (high - low)
        return _unscaled(min(max(at, low), high), parameter)

    def _anew(self, parameter: Parameter) -> Value:
        if parameter.low is None or parameter.high is None:
            return parameter.values[int(self._rng.integers(len(parameter.values)))]
        return _unscaled(
            self._rng.uniform(_scaled(parameter.low, parameter), _scaled(parameter.high, parameter)), parameter
        )


def _scaled(number: float, parameter: Parameter) -> float:
    return math.log(number) if parameter.log else number


def _unscaled(scaled: float, parameter: Parameter) -> Value:
    assert parameter.low is not None
    assert parameter.high is not None
    number = min(max(math.exp(scaled) if parameter.log else scaled, parameter.low), parameter.high)
    return round(number) if parameter.whole else float(number)
