"""Whether anything in a space fits a budget, found out before the search begins.

First every method at its defaults; where none fits, the smallest setting of each: its numbers at their lowest, then of
everything else what trains fewest parameters, and the training settings that cost the first method least. What breaks a
limit that needs counting only is not predicted.
"""

import math
from collections.abc import Callable, Mapping

from autopeft.errors import AutopeftError, CannotAttach
from autopeft.objectives import show
from autopeft.searching.proposer import default_params
from autopeft.space.candidate import Candidate, Value
from autopeft.space.parameters import Parameter, Recalled, label
from autopeft.space.space import Space
from autopeft.trial import Costs, excesses

_TRAINING = "training."
Params = Mapping[str, object]


def require_something_fits(
    space: Space,
    limits: Mapping[str, float],
    predict: Callable[[Candidate], Costs],
    count: Callable[[Candidate], Mapping[str, int]],
    where: str = "the space",
) -> None:
    """Raises AutopeftError, naming the nearest candidates, when no candidate that is looked at keeps all limits.

    `count` gives those costs that need no prediction.
    """
    if not limits:
        return

    def costs_of(candidate: Candidate) -> Mapping[str, float]:
        """Those that are limited; without the predicted ones where the others break their limits already."""
        counted = {name: value for name, value in count(candidate).items() if name in limits}
        if len(counted) == len(limits) or excesses(counted, limits):
            return counted
        costs = predict(candidate)
        return {name: costs.value(name) for name in limits}

    def size_of(candidate: Candidate) -> float:
        try:
            return sum(count(candidate).values())
        except CannotAttach:
            return math.inf

    kinds = (*space.methods, *space.hybrids)
    if any(not excesses(costs_of(space.defaults(kind)), limits) for kind in kinds):
        return
    lean: Params | None = None
    smallest: list[tuple[float, str, Mapping[str, float]]] = []
    for kind in kinds:
        params = _fewest(space, default_params(space, kind), size_of)
        if lean is None:
            lean = _leanest(space, params, lambda each: sum(excesses(costs_of(each), limits).values()))
        candidate = _draw(space, {**params, **lean})
        try:
            costs = costs_of(candidate)
        except CannotAttach:
            continue
        excess = excesses(costs, limits)
        if not excess:
            return
        smallest.append((sum(excess.values()), candidate.name, costs))
    nearest = sorted(smallest, key=lambda each: each[0])[:3]
    shown = "; ".join(f"{name} needs {_told(costs)}" for _, name, costs in nearest)
    raise AutopeftError(f"nothing in {where} fits the budget ({_told(limits)}). The nearest: {shown}.")


def _fewest(space: Space, params: Params, size_of: Callable[[Candidate], float]) -> Params:
    """The settings of the methods that train fewest parameters."""
    for name, options in _options(space, params).items():
        if name != "method" and all(isinstance(option, int | float) for option in options):
            params = {**params, name: min(options, key=float)}  # type: ignore[arg-type]
    for name, options in _options(space, params).items():
        if name != "method" and not all(isinstance(option, int | float) for option in options):
            params = min(({**params, name: option} for option in options), key=lambda each: size_of(_draw(space, each)))
    return params


def _leanest(space: Space, params: Params, excess_of: Callable[[Candidate], float]) -> Params:
    """The training settings that come nearest to the limits."""
    lean: Params = {}
    for name, options in _options(space, params, of_training=True).items():
        tried = [{**lean, name: option} for option in options]
        lean = min(tried, key=lambda each: excess_of(_draw(space, {**params, **each})))
    return lean


def _draw(space: Space, params: Params) -> Candidate:
    return space.draw(Recalled(params))


def _options(space: Space, params: Params, of_training: bool = False) -> Mapping[str, list[object]]:
    """What each parameter of a candidate could be, but for learning rates: all values, or both ends of a range."""
    seen = _Options(Recalled(params))
    space.draw(seen)
    return {name: each for name, each in seen.options.items() if name.startswith(_TRAINING) == of_training}


class _Options:
    """Draws from another source, and notes what each parameter could be."""

    def __init__(self, source: Recalled) -> None:
        self._source = source
        self.options: dict[str, list[object]] = {}

    def draw(self, name: str, parameter: Parameter) -> Value:
        if "learning_rate" not in name:
            self.options[name] = [label(value) for value in parameter.values] or [parameter.low, parameter.high]
        return self._source.draw(name, parameter)


def _told(costs: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {show(name, value)}" for name, value in costs.items())
