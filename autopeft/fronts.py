"""Which trials are worth having: the front over some objectives, its knee and hypervolume, the best trial under limits.

Pure and exact. Only trials that are models count: those that finished, and those whose weights of the last rung were
kept, with the score that they had there; and only where the value of every objective is known and finite.
Objectives are compared by `Trial.value`, whose costs are the predicted ones, because those are known of every trial.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from operator import le
from statistics import median

import numpy as np
from numpy.typing import NDArray

from autopeft.errors import AutopeftError, unknown
from autopeft.objectives import ACCURACY, COSTS, SCORE, UNITS, Objective, objective_named, show
from autopeft.plan import Budget
from autopeft.trial import LATENCY_OF, TOKEN, Status, Trial, excesses

MARGIN = 1.1
"""Reference of a cost, as a multiple of the largest one; above 1, so that the most expensive trial counts, too."""

Point = tuple[float, ...]


def front(trials: Iterable[Trial], objectives: Sequence[Objective]) -> tuple[Trial, ...]:
    """The trials that no other trial dominates, in the order of their numbers.

    One trial dominates another when it is no worse in any objective and better in one. Of trials that are equal in all
    objectives only the earliest is a member.
    """
    earliest: dict[Point, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if _counts(trial, objectives):
            earliest.setdefault(_point(trial, objectives), trial)
    return tuple(sorted((earliest[point] for point in _undominated(earliest)), key=lambda trial: trial.number))


def beaten(trials: Iterable[Trial], objectives: Sequence[Objective], score: Objective = ACCURACY) -> Mapping[int, int]:
    """The numbers of the trials that nobody is ever recommended, each with that of one that is no worse in anything.

    They are not on the front, and another one is no worse in the score and in all costs, predicted and measured: so
    `select` prefers that, whatever the limits on these. More trials change nothing for one that is beaten. Trials that
    are still training beat nothing and are not beaten, because their scores may change.
    """
    unbeaten = Unbeaten(objectives, score)
    those = {trial.number: trial for trial in sorted(trials, key=lambda trial: trial.number)}
    gone = sorted(number for trial in those.values() for number in unbeaten.add(trial))
    return {number: unbeaten.better(those[number]) for number in gone}


class Unbeaten:
    """The trials that are not beaten so far. Each further one is compared with them, and with no others."""

    def __init__(self, objectives: Sequence[Objective], score: Objective = ACCURACY) -> None:
        self._objectives, self._score = objectives, score
        self._numbers = np.empty(0, dtype=np.int64)
        self._points = np.empty((0, 1 + 2 * len(COSTS)))
        self._aims = np.empty((0, len(objectives)))

    def add(self, trial: Trial) -> Sequence[int]:
        """The numbers of those that are beaten now."""
        if trial.status is Status.TRAINING or not _counts(trial, (self._score,)):
            return ()
        aims = _point(trial, self._objectives)
        self._numbers = np.append(self._numbers, trial.number)
        self._points = np.concatenate([self._points, [self._point(trial)]])
        self._aims = np.concatenate([self._aims, [aims]])
        worse = np.flatnonzero((self._aims >= aims).all(axis=1) | (self._numbers == trial.number))
        beaten = [at for at in worse.tolist() if not self._stays(at)]
        gone: list[int] = self._numbers[beaten].tolist()
        self._numbers = np.delete(self._numbers, beaten)
        self._points = np.delete(self._points, beaten, axis=0)
        self._aims = np.delete(self._aims, beaten, axis=0)
        return gone

    def better(self, trial: Trial) -> int:
        """The number of the best of those that beat a trial which is beaten."""
        no_worse = np.flatnonzero((self._points <= self._point(trial)).all(axis=1))
        return int(self._numbers[min(no_worse, key=lambda at: (*self._points[at], self._numbers[at]))])

    def _point(self, trial: Trial) -> Point:
        """All that may make one better."""
        costs = COSTS.values()
        return (*_point(trial, (self._score, *costs)), *(_held(trial, name, {}) for name in COSTS))

    def _stays(self, at: int) -> bool:
        """Whether the trial there is on the front, or no other one is as good in everything."""
        if np.isfinite(self._aims[at]).all() and not self._ahead(self._aims, at).any():
            return True
        return not self._ahead(self._points, at).any()

    def _ahead(self, values: NDArray[np.float64], at: int) -> NDArray[np.bool_]:
        """Which are better than the one there; of equal ones the earlier."""
        better = (values < values[at]).any(axis=1) | (self._numbers < self._numbers[at])
        return np.asarray((values <= values[at]).all(axis=1) & better)


def knee(trials: Iterable[Trial], objectives: Sequence[Objective]) -> Trial | None:
    """The best trade-off on the front of these trials; None when it is empty.

    Each objective is scaled from 0 (the best on the front) to 1 (the worst); costs on a logarithmic scale, so that
    halving is worth the same everywhere. The knee has the smallest sum, that is the least Manhattan distance from the
    ideal (Chiu, Yen and Juan, IEEE Transactions on Evolutionary Computation 20, 2016). With two objectives it is the
    member that lies farthest from the line between both ends.
    """
    members = front(trials, objectives)
    if not members:
        return None
    scaled = [_scaled([_felt(trial, each) for trial in members]) for each in objectives]
    sums = [sum(values) for values in zip(*scaled, strict=True)]
    return members[sums.index(min(sums))]


def hypervolume(
    trials: Iterable[Trial], objectives: Sequence[Objective], reference: Mapping[str, float] | None = None
) -> float:
    """How much of all that could be had the front has, between 0 and 1.

    It is the share of the box between `reference` and the ideal (no costs; the best score that there is, or of a metric
    without one the best of these trials) that the front dominates: the exact hypervolume, divided by that of the box.
    What the reference does not name is score 0 where the best is 1, else the worst score of these trials, and 1.1 times
    the largest cost. Only values for the same reference can be compared. Raises AutopeftError.
    """
    counted = [trial for trial in trials if _counts(trial, objectives)]
    given = dict(reference or {})
    for name in given.keys() - {SCORE, *COSTS}:
        raise unknown("objective", name, (SCORE, *COSTS))
    boxes = [_box(counted, each, given.get(each.key)) for each in objectives]
    points = [tuple(_distance(trial, *both) for both in zip(objectives, boxes, strict=True)) for trial in counted]
    return _volume(_undominated(point for point in points if max(point) < 1))


def select(trials: Iterable[Trial], budget: Budget, score: Objective = ACCURACY, *, prefer: str = SCORE) -> Trial:
    """The best trial that keeps all limits of a budget whose shares are resolved.

    A cost keeps its limit when the predicted one does and, where it was measured, the measured one, too. Among trials
    that are equal in the preferred objective the score and then the costs decide, in the order of `COSTS`, and then the
    number.

    Raises AutopeftError that names the limits which no trial keeps, and what the nearest trial needs.
    """
    preferred = objective_named(prefer, score)
    order = (preferred, *(each for each in (score, *COSTS.values()) if each != preferred))
    trials = tuple(trials)
    counted = [trial for trial in trials if _counts(trial, (score, preferred))]
    if not counted:
        those = ", ".join(f"{count} {status}" for status, count in Counter(trial.status for trial in trials).items())
        raise AutopeftError(f"there is no trial to select: none finished with a score ({those or 'none began'}).")
    limits = {**budget.limits(), **budget.after_training()}
    if budget.score is not None:
        require_reachable(budget.score, score)
    latency = latencies(trials)
    kept = [trial for trial in counted if not _excesses(trial, limits, score, latency)]
    if not kept:
        raise AutopeftError(_refusal(counted, limits, score, latency))
    return min(kept, key=lambda trial: (_point(trial, order), trial.number))


def require_reachable(limit: float, score: Objective) -> None:
    """Raises AutopeftError for a limit on the score that lies beyond the best value there is."""
    if score.ideal is not None and score.sign * (limit - score.ideal) > 0:
        best = f"{score.name} is at {'most' if score.higher_is_better else 'least'} {score.ideal:g}"
        raise AutopeftError(f"{best}: no trial reaches {limit:g}; write it like 0.9 or 90%.")


def _counts(trial: Trial, objectives: Sequence[Objective]) -> bool:
    judged = trial.score is not None or not any(each.is_score for each in objectives)
    return trial.is_model and judged and all(math.isfinite(trial.value(o.key)) for o in objectives)


def _point(trial: Trial, objectives: Iterable[Objective]) -> Point:
    """The values of objectives, all so that less is better."""
    return tuple(-each.sign * trial.value(each.key) for each in objectives)


def _undominated(points: Iterable[Point]) -> list[Point]:
    """The points that no other one dominates, each once."""
    kept: list[Point] = []
    for point in sorted(set(points)):
        # What dominates a point comes before it in this order.
        if not any(all(map(le, other, point)) for other in kept):
            kept.append(point)
    return kept


def _felt(trial: Trial, objective: Objective) -> float:
    """An objective on the scale on which differences matter, less being better."""
    value = trial.value(objective.key)
    return -objective.sign * value if objective.is_score else math.log1p(value)


def _scaled(values: Sequence[float]) -> list[float]:
    low, span = min(values), max(values) - min(values)
    return [(value - low) / span if span else 0.0 for value in values]


def _box(trials: Sequence[Trial], objective: Objective, worst: float | None) -> tuple[float, float]:
    """The ideal and the worst value of an objective. Raises AutopeftError where what is given is no worse."""
    values = [objective.sign * trial.value(objective.key) for trial in trials]
    ideal = objective.sign * max(values, default=0.0) if objective.ideal is None else objective.ideal
    if worst is not None:
        if objective.ideal is None:
            ideal = objective.sign * max(objective.sign * ideal, objective.sign * worst)
        if not math.isfinite(worst) or (objective.ideal is not None and objective.sign * (ideal - worst) <= 0):
            asked = "less" if objective.higher_is_better else "greater"
            raise AutopeftError(
                f"the reference for {objective.name} must be a number {asked} than {ideal:g}, not {worst}."
            )
    elif objective.is_fraction:
        worst = 0.0
    elif objective.is_score:
        worst = objective.sign * min(values, default=0.0)
    else:
        worst = max(-MARGIN * min(values, default=0.0), 1.0)
    return ideal, worst


def _distance(trial: Trial, objective: Objective, box: tuple[float, float]) -> float:
    """From the ideal, 0, to the reference, 1."""
    ideal, worst = box
    return (ideal - trial.value(objective.key)) / (ideal - worst) if ideal != worst else 1.0


def _volume(points: Sequence[Point]) -> float:
    """Volume of the union of the boxes between each point and (1, …, 1): the sum of what each adds to the later ones.

    The algorithm is WFG (While, Bradstreet and Barone, IEEE Transactions on Evolutionary Computation 16, 2012).
    """
    total = 0.0
    for index, point in enumerate(points):
        shared = _undominated(tuple(map(max, point, later)) for later in points[index + 1 :])
        total += math.prod(1 - value for value in point) - _volume(shared)
    return total


def latencies(trials: Iterable[Trial]) -> Mapping[int, float]:
    """Seconds for one input of those trials where they were measured, by number.

    A machine is slow at some moments: what counts is by how much a trial was slower than the bare backbone at the same
    moments, and how fast that is at most of them.
    """
    facts = {
        trial.number: trial.outcome.facts for trial in trials if trial.outcome and "latency" in trial.outcome.facts
    }
    bare = [float(each["latency_bare"]) for each in facts.values() if each.get("latency_bare")]
    usual = median(bare) if bare else 0.0
    return {
        number: each["latency"] / each["latency_bare"] * usual if each.get("latency_bare") else float(each["latency"])
        for number, each in facts.items()
    }


def latency_of(trial: Trial | None) -> str:
    """What was timed of a trial."""
    token = trial is not None and trial.outcome is not None and trial.outcome.facts.get(LATENCY_OF) == TOKEN
    return "one new token" if token else "one row"


def limits_that_matter(trials: Iterable[Trial], limited: str, score: Objective) -> tuple[str, ...]:
    """What models need of a cost, or of the latency, or reach as a score: each as people may write it as a limit, so
    that the model keeps it; the loosest last.
    """
    models = [trial for trial in trials if _counts(trial, (score,))]
    latency = latencies(models)
    needed = sorted({value for each in models if math.isfinite(value := _held(each, limited, latency))})
    told = [_reached(score, each) if limited == SCORE else _enough(limited, each) for each in needed]
    return tuple(dict.fromkeys(told[::-1] if limited == SCORE and score.higher_is_better else told))


def _held(trial: Trial, limited: str, latency: Mapping[int, float]) -> float:
    """What is held against a limit: the score, the latency, or the larger of the predicted and the measured cost."""
    if limited == "latency":
        return latency.get(trial.number, math.inf)
    costs = trial.outcome.measured if trial.outcome else None
    value = trial.value(limited)
    if costs is None or limited == SCORE or getattr(costs, limited) is None:
        return value
    return max(value, costs.value(limited))


def _excesses(
    trial: Trial, limits: Mapping[str, float], score: Objective, latency: Mapping[int, float]
) -> dict[str, float]:
    """By how much a trial breaks limits, as a fraction of each; empty when it keeps all."""
    held = {name: _held(trial, name, latency) for name in limits}
    broken = excesses({name: value for name, value in held.items() if name != SCORE}, limits)
    if SCORE in held and (short := score.sign * (limits[SCORE] - held[SCORE])) > 0:
        broken[SCORE] = short / (abs(limits[SCORE]) or 1)
    return broken


def _refusal(
    trials: Sequence[Trial], limits: Mapping[str, float], score: Objective, latency: Mapping[int, float]
) -> str:
    """Why no trial keeps all limits: the fewest that no trial keeps together, and what the nearest trial needs."""
    excesses = [_excesses(trial, limits, score, latency) for trial in trials]
    together = next(
        names
        for size in range(1, len(limits) + 1)
        for names in combinations(limits, size)
        if not any(excess.keys().isdisjoint(names) for excess in excesses)
    )
    least = "least" if score.higher_is_better else "most"
    asked = _listed(
        [
            f"{score.name} at {least} {limits[name]:g}"
            if name == SCORE
            else f"{name} at most {show(name, limits[name])}"
            for name in together
        ]
    )
    nearest, excess = min(zip(trials, excesses, strict=True), key=lambda pair: (sum(pair[1].values()), pair[0].number))
    needs = [
        f"reaches {score.name} {_reached(score, nearest.value(SCORE))}"
        if name == SCORE
        else f"needs {name} {_enough(name, _held(nearest, name, latency))}"
        for name in excess
    ]
    return (
        f"no trial keeps {asked}{' together' if len(together) > 1 else ''}. "
        f"The nearest, trial {nearest.number} ({nearest.candidate.name}), {_listed(needs)}."
    )


_MORE = 2
"""Digits beyond those in which scores are shown, where these would promise too much."""


def _reached(score: Objective, value: float) -> str:
    """A score in so few digits as are enough for a limit: never rounded to what is better."""
    digits = 3 if score.is_fraction or value == 0 else 3 - math.floor(math.log10(abs(value)))
    for more in range(_MORE + 1):
        rounded = round(value, digits + more)
        if score.sign * (rounded - value) <= 0:
            return f"{rounded:.12g}"
    return f"{round(rounded - score.sign * 10.0 ** -(digits + _MORE), digits + _MORE):.12g}"


def _enough(name: str, value: float) -> str:
    """A cost in few digits that is enough as a limit: never rounded down, and up by no more than that takes."""
    if not math.isfinite(value):
        return "that nobody measured"
    more = (value + tenth / 10_000 if name == "overhead" else value * (1 + tenth / 2000) for tenth in range(11))
    told = [show(name, each) for each in more]
    return next((each for each in told if UNITS[name].parse(each) >= value), told[-1])


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([part for part in (", ".join(parts[:-1]), *parts[-1:]) if part])
