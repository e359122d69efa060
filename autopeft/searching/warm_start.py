"""What a search may begin with beside its portfolio: what was best in past searches on the same backbone.

Past searches may have had other data, so scores are compared within a front only, and no sampler learns of them;
draws are all that is taken over. Members of a front that this space does not hold, that cannot be attached or that
break a limit are left out. Of the others the best on its front comes first, then always what adds most for those who
have a budget on costs and take the member that was the best of those that fit it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autopeft.errors import CannotAttach
from autopeft.fronts import front
from autopeft.objectives import Objective, objectives_named
from autopeft.searching.portfolio import in_order
from autopeft.searching.sameness import BACKBONE
from autopeft.searching.samplers.parts.interface import SPANNING
from autopeft.searching.samplers.parts.prices import key_of
from autopeft.space.candidate import Candidate, Value
from autopeft.space.parameters import Parameter, Recalled, label
from autopeft.space.space import Space
from autopeft.storage.repository import Repository
from autopeft.trial import Costs, SearchRecord, Trial

LATEST = 8
"""Past searches that are looked at: the costs of all members of their fronts are predicted."""
_TRAINING = "training."


@dataclass(frozen=True)
class _Member:
    """A member of past fronts, as this space makes it."""

    params: Mapping[str, Any]
    candidate: Candidate
    rank: float
    """Its best place by score on a front: the share of members that are no better, itself included."""


def past_searches(repository: Repository, model: str) -> tuple[SearchRecord, ...]:
    """The latest searches on a model of which any trial finished."""
    names = [each.name for each in repository.summaries() if each.model == model and each.best is not None]
    return tuple(repository.load(name) for name in names[-LATEST:])


def warm_start(
    past: Iterable[SearchRecord],
    record: SearchRecord,
    space: Space,
    predict: Callable[[Candidate], Costs],
    limits: Mapping[str, float],
    most: int = SPANNING // 2,
) -> tuple[Mapping[str, Any], ...]:
    """The draws of at most so many members of past fronts, over the objectives of `record`, in the order in which to
    try them; by default half as many as span a front. Pure, but for what `predict` does.
    """
    members: dict[object, _Member] = {}
    for earlier in past:
        if earlier.name == record.name or on_other_weights(earlier, record):
            continue
        members_then = front(earlier.trials, objectives_named(record.plan.objectives, earlier.metric))
        for trial, rank in _ranked(members_then, earlier.metric):
            if made := _made_again(space, trial):
                params, candidate = made
                known = members.get(key_of(params))
                members[key_of(params)] = _Member(params, candidate, max(rank, known.rank if known else 0.0))
    usable = []
    for member in members.values():
        try:
            costs = predict(member.candidate)
        except CannotAttach:
            continue
        if not costs.excesses(limits):
            usable.append((member, costs))
    ranks = np.array([member.rank for member, _ in usable])
    order = in_order([costs for _, costs in usable], record.objectives, len(usable), ranks)
    first = max(order, key=lambda at: ranks[at], default=None)
    return tuple(usable[at][0].params for at in sorted(order, key=lambda at: at != first)[:most])


def on_other_weights(earlier: SearchRecord, record: SearchRecord) -> bool:
    """Whether a past search is known to have trained another backbone; one that is older may not say on which."""
    before, now = (
        (each.plan.model, each.facts.get("backbone_parameters"), each.facts.get(BACKBONE)) for each in (earlier, record)
    )
    return before[:2] != now[:2] or (None not in (before[2], now[2]) and before[2] != now[2])


def _ranked(members: Sequence[Trial], metric: Objective) -> Iterable[tuple[Trial, float]]:
    """Members of one front with their places on it by score."""
    scores = metric.sign * np.array([member.score or 0.0 for member in members])
    return [(member, float(np.mean(scores <= score))) for member, score in zip(members, scores, strict=True)]


def _made_again(space: Space, trial: Trial) -> tuple[Mapping[str, Any], Candidate] | None:
    """The draws of a past trial as this space draws them, and what they make; None where it does not draw them.

    Methods and their settings must be the very same. So must training settings that were drawn; the others are this
    space's, because they depend on the data.
    """
    draws = _Held(Recalled(trial.params))
    try:
        candidate = space.draw(draws)
    except (ValueError, TypeError):
        return None
    trained = {
        name.removeprefix(_TRAINING): drawn for name, drawn in trial.params.items() if name.startswith(_TRAINING)
    }
    if candidate.parts != trial.candidate.parts:
        return None
    if any(label(getattr(candidate.training, name, None)) != drawn for name, drawn in trained.items()):
        return None
    return draws.drawn, candidate


class _Held:
    """Draws again what was drawn before; what a parameter does not hold is a ValueError."""

    def __init__(self, source: Recalled) -> None:
        self._source = source
        self.drawn: dict[str, Any] = {}

    def draw(self, name: str, parameter: Parameter) -> Value:
        value = self._source.draw(name, parameter)
        if not parameter.holds(value):
            raise ValueError(f"{name} cannot be {value}")
        self.drawn[name] = label(value)
        return value
