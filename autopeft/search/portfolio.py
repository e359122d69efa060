"""What a search begins with: methods and hybrids at their known good settings, the first few spread over the front.

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
from autopeft.search.proposer import default_params
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
    that breaks a limit. What the space names comes first.
    """
    ways = _ways(space) if COSTS["memory"] in objectives or "memory" in limits else [{}]

    def possible(given: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Costs]]:
        known: list[tuple[Mapping[str, Any], Costs]] = []
        for draws in given:
            for way in ways:
                params = {**default_params(space, draws["method"]), **draws, **way}
                try:
                    costs = predict(space.draw(Recalled(params)))
                except CannotAttach:
                    continue
                if not costs.excesses(limits):
                    known.append((params, costs))
                    break
        return known

    named = [params for params, _ in possible([each for each in space.first if each["method"] in space.methods])]
    usual = possible([{"method": kind} for kind in (*space.methods, *space.hybrids)])
    known = [each for each in usual if each[0] not in named]
    return (*named, *(known[at][0] for at in in_order([costs for _, costs in known], objectives, len(known))))


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
