"""Which trials are worth having: the front over some objectives, its knee and hypervolume, the best trial under limits.

Pure and exact. Only finished trials count, and only those whose value of every objective is known and finite.
Objectives are compared by `Trial.value`, whose costs are the predicted ones, because those are known of every trial.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from operator import le

from autopeft.errors import AutopeftError, unknown
from autopeft.plan import OBJECTIVES, PARSERS, Budget, show_cost
from autopeft.trial import Status, Trial, excesses

MARGIN = 1.1
"""Reference of a cost, as a multiple of the largest one; above 1, so that the most expensive trial counts, too."""

Point = tuple[float, ...]


def front(trials: Iterable[Trial], objectives: Sequence[str]) -> tuple[Trial, ...]:
    """The trials that no other trial dominates, in the order of their numbers.

    One trial dominates another when it is no worse in any objective and better in one. Of trials that are equal in all
    objectives only the earliest is a member.
    """
    earliest: dict[Point, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if _counts(trial, objectives):
            earliest.setdefault(_point(trial, objectives), trial)
    return tuple(sorted((earliest[point] for point in _undominated(earliest)), key=lambda trial: trial.number))


def knee(trials: Iterable[Trial], objectives: Sequence[str]) -> Trial | None:
    """The best trade-off on the front of these trials; None when it is empty.

    Each objective is scaled from 0 (the best on the front) to 1 (the worst); costs on a logarithmic scale, so that
    halving is worth the same everywhere. The knee has the smallest sum, that is the least Manhattan distance from the
    ideal (Chiu, Yen and Juan, IEEE Transactions on Evolutionary Computation 20, 2016). With two objectives it is the
    member that lies farthest from the line between both ends.
    """
    members = front(trials, objectives)
    if not members:
        return None
    scaled = [_scaled([_felt(trial, name) for trial in members]) for name in objectives]
    sums = [sum(values) for values in zip(*scaled, strict=True)]
    return members[sums.index(min(sums))]


def hypervolume(
    trials: Iterable[Trial], objectives: Sequence[str], reference: Mapping[str, float] | None = None
) -> float:
    """How much of all that could be had the front has, between 0 and 1.

    It is the share of the box between `reference` and the ideal (accuracy 1, no costs) that the front dominates: the
    exact hypervolume, divided by that of the box. What the reference does not name is accuracy 0, and 1.1 times the
    largest cost of these trials. Only values for the same reference can be compared. Raises AutopeftError.
    """
    counted = [trial for trial in trials if _counts(trial, objectives)]
    worst = {name: _worst(counted, name) for name in objectives} | dict(reference or {})
    for name, value in worst.items():
        if not (value < 1 if _more_is_better(name) else 0 < value < math.inf):
            asked = "less than 1" if OBJECTIVES[name] else "greater than 0"
            raise AutopeftError(f"the reference for {name} must be a number {asked}, not {value}.")
    points = [tuple(_distance(trial, name, worst[name]) for name in objectives) for trial in counted]
    return _volume(_undominated(point for point in points if max(point) < 1))


def select(trials: Iterable[Trial], budget: Budget, *, prefer: str = "accuracy") -> Trial:
    """The best finished trial that keeps all limits of a budget whose shares are resolved.

    A cost keeps its limit when the predicted one does and, where it was measured, the measured one, too. Among trials
    that are equal in the preferred objective the others decide, in the order of `OBJECTIVES`, and then the number.

    Raises AutopeftError that names the limits which no trial keeps, and what the nearest trial needs.
    """
    if prefer not in OBJECTIVES:
        raise unknown("objective", prefer, OBJECTIVES)
    order = (prefer, *(name for name in OBJECTIVES if name != prefer))
    trials = tuple(trials)
    counted = [trial for trial in trials if _counts(trial, ("accuracy", prefer))]
    if not counted:
        those = ", ".join(f"{count} {status}" for status, count in Counter(trial.status for trial in trials).items())
        raise AutopeftError(f"there is no trial to select: none finished with an accuracy ({those or 'none began'}).")
    limits = budget.limits()
    if budget.latency is not None:
        limits["latency"] = budget.latency
    if budget.accuracy_at_least is not None:
        limits["accuracy"] = budget.accuracy_at_least
    kept = [trial for trial in counted if not _excesses(trial, limits)]
    if not kept:
        raise AutopeftError(_refusal(counted, limits))
    return min(kept, key=lambda trial: (_point(trial, order), trial.number))


def _counts(trial: Trial, objectives: Sequence[str]) -> bool:
    judged = all(not _more_is_better(name) or trial.accuracy is not None for name in objectives)
    return trial.status is Status.FINISHED and judged and all(math.isfinite(trial.value(name)) for name in objectives)


def _more_is_better(objective: str) -> bool:
    if objective not in OBJECTIVES:
        raise unknown("objective", objective, OBJECTIVES)
    return OBJECTIVES[objective]


def _point(trial: Trial, objectives: Iterable[str]) -> Point:
    """The values of objectives, all so that less is better."""
    return tuple(-trial.value(name) if _more_is_better(name) else trial.value(name) for name in objectives)


def _undominated(points: Iterable[Point]) -> list[Point]:
    """The points that no other one dominates, each once."""
    kept: list[Point] = []
    for point in sorted(set(points)):
        # What dominates a point comes before it in this order.
        if not any(all(map(le, other, point)) for other in kept):
            kept.append(point)
    return kept


def _felt(trial: Trial, objective: str) -> float:
    """An objective on the scale on which differences matter, less being better."""
    return -trial.value(objective) if _more_is_better(objective) else math.log1p(trial.value(objective))


def _scaled(values: Sequence[float]) -> list[float]:
    low, span = min(values), max(values) - min(values)
    return [(value - low) / span if span else 0.0 for value in values]


def _worst(trials: Iterable[Trial], objective: str) -> float:
    if _more_is_better(objective):
        return 0.0
    return max(MARGIN * max((trial.value(objective) for trial in trials), default=0.0), 1.0)


def _distance(trial: Trial, objective: str, worst: float) -> float:
    """From the ideal, 0, to the reference, 1."""
    value = trial.value(objective)
    return (1 - value) / (1 - worst) if OBJECTIVES[objective] else value / worst


def _volume(points: Sequence[Point]) -> float:
    """Volume of the union of the boxes between each point and (1, …, 1): the sum of what each adds to the later ones.

    The algorithm is WFG (While, Bradstreet and Barone, IEEE Transactions on Evolutionary Computation 16, 2012).
    """
    total = 0.0
    for index, point in enumerate(points):
        shared = _undominated(tuple(map(max, point, later)) for later in points[index + 1 :])
        total += math.prod(1 - value for value in point) - _volume(shared)
    return total


def _held(trial: Trial, limited: str) -> float:
    """What is held against a limit: the accuracy, the latency, or the larger of the predicted and the measured cost."""
    if limited == "latency":
        measured = trial.outcome.facts.get("latency") if trial.outcome else None
        return math.inf if measured is None else float(measured)
    costs = trial.outcome.measured if trial.outcome else None
    value = trial.value(limited)
    if costs is None or limited == "accuracy" or getattr(costs, limited) is None:
        return value
    return max(value, costs.value(limited))


def _excesses(trial: Trial, limits: Mapping[str, float]) -> dict[str, float]:
    """By how much a trial breaks limits, as a fraction of each; empty when it keeps all."""
    held = {name: _held(trial, name) for name in limits}
    broken = excesses({name: value for name, value in held.items() if name != "accuracy"}, limits)
    if "accuracy" in held and held["accuracy"] < limits["accuracy"]:
        broken["accuracy"] = 1 - held["accuracy"] / limits["accuracy"]
    return broken


def _refusal(trials: Sequence[Trial], limits: Mapping[str, float]) -> str:
    """Why no trial keeps all limits: the fewest that no trial keeps together, and what the nearest trial needs."""
    excesses = [_excesses(trial, limits) for trial in trials]
    together = next(
        names
        for size in range(1, len(limits) + 1)
        for names in combinations(limits, size)
        if not any(excess.keys().isdisjoint(names) for excess in excesses)
    )
    asked = _listed(
        [f"{name} at {'least' if name == 'accuracy' else 'most'} {_show(name, limits[name])}" for name in together]
    )
    nearest, excess = min(zip(trials, excesses, strict=True), key=lambda pair: (sum(pair[1].values()), pair[0].number))
    needs = [
        f"{'reaches' if name == 'accuracy' else 'needs'} {name} {_enough(name, _held(nearest, name))}"
        for name in excess
    ]
    return (
        f"no finished trial keeps {asked}{' together' if len(together) > 1 else ''}. "
        f"The nearest, trial {nearest.number} ({nearest.candidate.name}), {_listed(needs)}."
    )


def _show(objective: str, value: float) -> str:
    if not math.isfinite(value):
        return "that nobody measured"
    return f"{value:g}" if objective == "accuracy" else show_cost(objective, value)


def _enough(objective: str, value: float) -> str:
    """A value in few digits that is enough as a limit: costs are never rounded down, accuracies never up."""
    if objective == "accuracy":
        rounded = round(value, 3)
        return _show(objective, rounded if rounded <= value else round(rounded - 0.001, 3))
    shown = _show(objective, value)
    if not math.isfinite(value) or PARSERS[objective](shown) >= value:
        return shown
    return _show(objective, value + 0.001 if objective == "overhead" else value * 1.005)


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([part for part in (", ".join(parts[:-1]), *parts[-1:]) if part])
