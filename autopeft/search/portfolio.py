"""What a search begins with: what its space says that people would take by hand; then methods and hybrids at their
known good settings, the first few spread over the front.

The order follows from costs alone, and is decided before anything is trained. Whoever has a budget somewhere on the
scale of costs takes the best that fits it; nothing is expected of a candidate but that more trainable parameters learn
more. First comes what serves most budgets best, then always what adds most to those before it: neither a second method
at nearly the same costs nor one that is dear in every respect. Settings are those of the cards; where memory counts,
with the smallest batch, because that decides about memory more than methods do and takes no time; with gradient
checkpointing, which does, only where nothing else keeps a limit.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopeft.errors import CannotAttach
from autopeft.objectives import COSTS, Objective, cost_names
from autopeft.search.proposer import drawn_params
from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Recalled
from autopeft.space.space import Space
from autopeft.trial import Costs

Array = NDArray[np.float64]

_BY_SIZE = 0.6
"""How much of what is expected is due to size, between the smallest candidate and the largest."""
_BUDGETS = 4000
"""Budgets that are looked at, about; they thin out the scales of costs where there are more."""


def portfolio(
    space: Space,
    predict: Callable[[Candidate], Costs],
    objectives: Sequence[Objective],
    limits: Mapping[str, float],
) -> tuple[Mapping[str, Any], ...]:
    """The draws that make every method and hybrid as it is known to be good, in the order in which to try them; none
    that breaks a limit.
    """
    ways = _ways(space) if COSTS["memory"] in objectives or "memory" in limits else [{}]
    kinds = (*space.methods, *space.hybrids)
    known = [found for kind in kinds if (found := _fitting(space, {"method": kind}, ways, predict, limits))]
    return tuple(known[at][0] for at in in_order([costs for _, costs in known], objectives, len(known)))


def by_hand(
    space: Space, parameters: int, predict: Callable[[Candidate], Costs], limits: Mapping[str, float]
) -> tuple[Mapping[str, Any], ...]:
    """The draws that the space itself begins with on a backbone of so many parameters, in smaller batches and with
    gradient checkpointing where that alone keeps the limits; none that breaks one or cannot be attached.
    """
    meant = [each for each in space.begins_with if each.is_for(parameters) and each.draws["method"] in space.kinds()]
    ways = [{}, *_ways(space)] if "memory" in limits else [{}]
    fitting = [_fitting(space, each.draws, ways, predict, limits) for each in meant]
    return tuple(found[0] for found in fitting if found)


def _fitting(
    space: Space,
    draws: Mapping[str, Any],
    ways: Sequence[Mapping[str, Any]],
    predict: Callable[[Candidate], Costs],
    limits: Mapping[str, float],
) -> tuple[Mapping[str, Any], Costs] | None:
    """What makes a candidate of these draws and defaults in the first of these ways that keeps the limits."""
    for way in ways:
        params = drawn_params(space, {**draws, **way})
        try:
            costs = predict(space.draw(Recalled(params)))
        except CannotAttach:
            continue
        if not costs.excesses(limits):
            return params, costs
    return None


def in_order(
    costs: Sequence[Costs], objectives: Sequence[Objective], most: int, expected: Array | None = None
) -> tuple[int, ...]:
    """Positions of at most so many candidates, each adding most to those before it. Pure.

    Budgets are all pairs, triples, … of costs that candidates have: costs count by their ranks, so that neither many
    candidates at nearly one cost nor a single one far off decide. What is `expected` of candidates, between 0 and 1,
    follows from their sizes where it is not given.
    """
    if not costs:
        return ()
    values: Array = np.array([[each.value(name) for name in cost_names(objectives)] for each in costs])
    budgets = _budgets(values)
    serves: Array = np.all(values[:, None] <= budgets[None], axis=2).astype(float)
    if expected is None:
        expected = _expected(costs)
    served = np.zeros(len(budgets))
    order: list[int] = []
    while len(order) < min(most, len(costs)):
        added = (serves * np.maximum(expected[:, None] - served, 0.0)).sum(axis=1)
        best = max((at for at in range(len(costs)) if at not in order), key=lambda at: (added[at], expected[at], -at))
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


def _expected(costs: Sequence[Costs]) -> Array:
    """1 of the largest candidate, falling with the logarithm of the size."""
    sizes: Array = np.log([max(each.trainable, 1) for each in costs])
    behind: Array = (sizes.max() - sizes) / (float(np.ptp(sizes)) or 1.0)
    return 1 - _BY_SIZE * behind


def _ways(space: Space) -> Sequence[Mapping[str, Any]]:
    """Draws that save memory, of those that the space leaves open, in the order in which to try them."""
    batch, checkpointing = space.training.get("batch_size"), space.training.get("gradient_checkpointing")
    small: dict[str, Any] = {}
    if batch is not None and batch.varies:
        small = {"training.batch_size": batch.low or min(int(str(value)) for value in batch.values)}
    if checkpointing is not None and True in checkpointing.values:
        return small, {**small, "training.gradient_checkpointing": True}, {}
    return small, {}
