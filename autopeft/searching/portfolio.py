"""What a search begins with: what its space says that people would take by hand; then methods and hybrids at their
known good settings, the first few spread over the front.

The order follows from costs alone, and is decided before anything is trained. Whoever has a budget somewhere on the
scale of costs takes the best that fits it; nothing is expected of a candidate but that more trainable parameters learn
more. First comes what serves most budgets best, then always what adds most to those before it: neither a second method
at nearly the same costs nor one that is dear in every respect. Settings are those of the cards; where memory counts,
with the smallest batch, because that decides about memory more than methods do and takes no time; with gradient
checkpointing, which does, only where nothing else keeps a limit.

Where seconds can be told beforehand, two kinds come in turn: the front's good end, where size is all that is expected
to matter and only what is far slower than others waits; and quick ones, which are the first few methods on the fewest
layers and for the fewest epochs, so that soon there is something for small budgets, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopeft.errors import CannotAttach
from autopeft.objectives import COSTS, Objective, cost_names
from autopeft.searching.proposer import drawn_params
from autopeft.searching.samplers.parts.features import fraction
from autopeft.searching.samplers.parts.interface import SPANNING
from autopeft.space.candidate import Candidate, Value
from autopeft.space.parameters import Parameter, Recalled, label
from autopeft.space.space import Space
from autopeft.trial import Costs

Array = NDArray[np.float64]

_BY_SIZE = 0.6
"""How much of what is expected is due to size, between the smallest candidate and the largest."""
_BY_SIZE_AT_GOOD_END = 1.0
"""The same where the best score is looked for."""
_SLOW = 2.0
"""So many times the median of seconds is slow."""
_BUDGETS = 4000
"""Budgets that are looked at, about; they thin out the scales of costs where there are more."""


def portfolio(
    space: Space,
    predict: Callable[[Candidate], Costs],
    objectives: Sequence[Objective],
    limits: Mapping[str, float],
    seconds: Callable[[Candidate, Costs], float] | None = None,
) -> tuple[Mapping[str, Any], ...]:
    """The draws that make every method and hybrid as it is known to be good, in the order in which to try them; none
    that breaks a limit.
    """
    ways = _ways(space) if COSTS["memory"] in objectives or "memory" in limits else [{}]
    kinds = (*space.methods, *space.hybrids)
    whole = [found for kind in kinds if (found := _fitting(space, {"method": kind}, ways, predict, limits, seconds))]
    spread = _ordered(whole, objectives, _BY_SIZE, [each.seconds for each in whole])
    if seconds is None:
        return tuple(each.params for each in spread)
    shorter = [(each.params, _quick(space, each.params)) for each in spread[:SPANNING]]
    drawn = [made for params, made in shorter if made != params]
    quick = [found for draws in drawn if (found := _fitting(space, draws, [{}], predict, limits, seconds))]
    good = _ordered(whole, objectives, _BY_SIZE_AT_GOOD_END, _slow([each.seconds for each in whole]))
    quick = _ordered(quick, objectives, _BY_SIZE, [each.seconds for each in quick])
    # Of few methods each is tried as it is usual before any is tried shorter.
    several = zip_longest(good, quick) if len(good) > SPANNING else [[*good, *quick]]
    return tuple(each.params for some in several for each in some if each is not None)


def by_hand(
    space: Space, parameters: int, predict: Callable[[Candidate], Costs], limits: Mapping[str, float]
) -> tuple[Mapping[str, Any], ...]:
    """The draws that the space itself begins with on a backbone of so many parameters, in smaller batches and with
    gradient checkpointing where that alone keeps the limits; none that breaks one or cannot be attached.
    """
    meant = [each for each in space.begins_with if each.is_for(parameters) and each.draws["method"] in space.kinds()]
    ways = [{}, *_ways(space)] if "memory" in limits else [{}]
    fitting = [_fitting(space, each.draws, ways, predict, limits) for each in meant]
    return tuple(found.params for found in fitting if found)


@dataclass(frozen=True)
class _Known:
    """A candidate that may be begun with."""

    params: Mapping[str, Any]
    costs: Costs
    seconds: float


def _fitting(
    space: Space,
    draws: Mapping[str, Any],
    ways: Sequence[Mapping[str, Any]],
    predict: Callable[[Candidate], Costs],
    limits: Mapping[str, float],
    seconds: Callable[[Candidate, Costs], float] | None = None,
) -> _Known | None:
    """What is made of these draws and defaults in the first of these ways that keeps the limits."""
    for way in ways:
        params = drawn_params(space, {**draws, **way})
        candidate = space.draw(Recalled(params))
        try:
            costs = predict(candidate)
        except CannotAttach:
            continue
        if not costs.excesses(limits):
            return _Known(params, costs, seconds(candidate, costs) if seconds else 1.0)
    return None


def _ordered(
    those: Sequence[_Known], objectives: Sequence[Objective], by_size: float, lasts: Sequence[float]
) -> list[_Known]:
    if not those:
        return []
    costs = [each.costs for each in those]
    return [those[at] for at in in_order(costs, objectives, len(those), _expected(costs, by_size), lasts)]


def _slow(seconds: Sequence[float]) -> list[float]:
    """How many times as long as what is slow already; 1 of all that is not slow."""
    slow = _SLOW * float(np.median(seconds)) if seconds else 1.0
    return [max(each / slow, 1.0) for each in seconds]


def in_order(
    costs: Sequence[Costs],
    objectives: Sequence[Objective],
    most: int,
    expected: Array | None = None,
    seconds: Sequence[float] | None = None,
) -> tuple[int, ...]:
    """Positions of at most so many candidates, each adding most, for its seconds, to those before it. Pure.

    Budgets are all pairs, triples, … of costs that candidates have: costs count by their ranks, so that neither many
    candidates at nearly one cost nor a single one far off decide. What is `expected` of candidates, between 0 and 1,
    follows from their sizes where it is not given. Without `seconds` all count as equally quick.
    """
    if not costs:
        return ()
    values: Array = np.array([[each.value(name) for name in cost_names(objectives)] for each in costs])
    budgets = _budgets(values)
    serves: Array = np.all(values[:, None] <= budgets[None], axis=2).astype(float)
    if expected is None:
        expected = _expected(costs, _BY_SIZE)
    lasts = np.ones(len(costs)) if seconds is None else np.array(seconds)
    served = np.zeros(len(budgets))
    order: list[int] = []
    while len(order) < min(most, len(costs)):
        added = (serves * np.maximum(expected[:, None] - served, 0.0)).sum(axis=1) / lasts
        left = (at for at in range(len(costs)) if at not in order)
        best = max(left, key=lambda at: (added[at], expected[at] / lasts[at], -at))
        order.append(best)
        served = np.maximum(served, serves[best] * expected[best])
    return tuple(order)


def _budgets(values: Array) -> Array:
    """All combinations of the costs in each column; evenly thinned out where they are many."""
    fineness = int(_BUDGETS ** (1 / max(values.shape[1], 1)))
    scales = []
    for column in values.T:
        distinct = np.unique(column)
        scales.append(distinct[np.unique(np.linspace(0, len(distinct) - 1, fineness).round().astype(int))])
    return np.array(list(product(*scales)))


def _expected(costs: Sequence[Costs], by_size: float) -> Array:
    """1 of the largest candidate, falling with the logarithm of the size."""
    sizes: Array = np.log([max(each.trainable, 1) for each in costs])
    behind: Array = (sizes.max() - sizes) / (float(np.ptp(sizes)) or 1.0)
    return 1 - by_size * behind


def _ways(space: Space) -> Sequence[Mapping[str, Any]]:
    """Draws that save memory, of those that the space leaves open, in the order in which to try them."""
    batch, checkpointing = space.training.get("batch_size"), space.training.get("gradient_checkpointing")
    small: dict[str, Any] = {}
    if batch is not None and batch.varies:
        small = {"training.batch_size": batch.low or min(int(str(value)) for value in batch.values)}
    if checkpointing is not None and True in checkpointing.values:
        return small, {**small, "training.gradient_checkpointing": True}, {}
    return small, {}


def _quick(space: Space, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The draws with the fewest layers and epochs that the space leaves open."""
    seen = _Fewest(Recalled(params))
    space.draw(seen)
    return {**params, **seen.fewest}


class _Fewest:
    """Draws from another source, and notes the fewest layers and epochs there may be."""

    def __init__(self, source: Recalled) -> None:
        self._source = source
        self.fewest: dict[str, Any] = {}

    def draw(self, name: str, parameter: Parameter) -> Value:
        setting = name.rpartition(".")[2]
        if setting == "layers" and parameter.values:
            self.fewest[name] = label(min(parameter.values, key=fraction))
        elif setting == "epochs":
            self.fewest[name] = label(min(parameter.values or (parameter.low,), key=_number))
        return self._source.draw(name, parameter)


def _number(value: Value) -> float:
    return float(str(value))
