"""Whether anything in a space fits a budget, found out before the search begins.

First every method at its defaults; where none fits, the smallest setting of each is looked for, one parameter after
another.
"""

from collections.abc import Callable, Mapping

from autopeft.errors import AutopeftError
from autopeft.search.proposer import default_params
from autopeft.sizes import show_bytes, show_count
from autopeft.space.candidate import Candidate, Value
from autopeft.space.parameters import Parameter, Recalled, label
from autopeft.space.space import Space
from autopeft.trial import Costs

_SHOW = {"memory": show_bytes, "stored": show_bytes}


def require_something_fits(
    space: Space, limits: Mapping[str, int], predict: Callable[[Candidate], Costs], where: str = "the space"
) -> None:
    """Raises AutopeftError, naming the nearest candidates, when no candidate that is looked at keeps all limits."""
    if not limits:
        return
    kinds = (*space.methods, *space.hybrids)
    if any(not predict(space.defaults(kind)).excesses(limits) for kind in kinds):
        return
    smallest: list[tuple[float, str, Costs]] = []
    for kind in kinds:
        params = dict(default_params(space, kind))
        candidate, costs = _shrunk(space, params, limits, predict)
        excess = costs.excesses(limits)
        if not excess:
            return
        smallest.append((sum(excess.values()), candidate.name, costs))
    nearest = sorted(smallest, key=lambda each: each[0])[:3]
    shown = "; ".join(f"{name} needs {_needs(costs, limits)}" for _, name, costs in nearest)
    asked = ", ".join(f"{name} {_show(name, limit)}" for name, limit in limits.items())
    raise AutopeftError(f"nothing in {where} fits the budget ({asked}). The nearest: {shown}.")


def _shrunk(
    space: Space, params: dict[str, object], limits: Mapping[str, int], predict: Callable[[Candidate], Costs]
) -> tuple[Candidate, Costs]:
    """Sets one parameter after another to the value that comes nearest to the limits."""

    def excess_of(tried: Mapping[str, object]) -> tuple[float, float]:
        costs = predict(space.draw(Recalled(tried)))
        return sum(costs.excesses(limits).values()), sum(getattr(costs, name) / limit for name, limit in limits.items())

    seen = _Options()
    space.draw(seen.over(Recalled(params)))
    for name, options in seen.options.items():
        if name != "method":
            params = min(({**params, name: option} for option in options), key=excess_of)
    candidate = space.draw(Recalled(params))
    return candidate, predict(candidate)


class _Options:
    """Draws from another source, and notes what each parameter could be: all values, or both ends of a range."""

    def __init__(self) -> None:
        self.options: dict[str, list[object]] = {}

    def over(self, source: Recalled) -> "_Options":
        self._source = source
        return self

    def draw(self, name: str, parameter: Parameter) -> Value:
        if "learning_rate" not in name:
            self.options[name] = [label(value) for value in parameter.values] or [parameter.low, parameter.high]
        return self._source.draw(name, parameter)


def _needs(costs: Costs, limits: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {_show(name, getattr(costs, name))}" for name in limits)


def _show(name: str, value: float) -> str:
    return _SHOW.get(name, show_count)(value)
