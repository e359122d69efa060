"""Predictors that a process keeps: what is asked again of the same backbone is not simulated again."""

import threading
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from autopeft.backbone.load import Skeleton
from autopeft.costs.predict import Predictor
from autopeft.methods.registry import Configured
from autopeft.space.cards import Card
from autopeft.tasks.base import Task
from autopeft.training.precision import device_here, precision_of

_KEPT = 8
"""Predictors that are kept of a thread, those that were asked last."""
_STAYS = ("autopeft.", "peft.")
"""Where code lies that is the same as long as a process lives."""
_CHOSEN = ("_attn_implementation", "_experts_implementation")
"""What a configuration says of how is computed, and does not write into its file."""
_of_thread = threading.local()
"""Two threads would attach methods to one skeleton at once."""


def shared_predictor(
    skeleton: Skeleton,
    cards: Mapping[str, Card],
    task: Task,
    length: int,
    parts: Iterable[Configured] = (),
    **how: Any,
) -> Predictor:
    """A predictor for candidates of these cards, or for methods that are configured already, that knows what was
    predicted of such a backbone before. Of a user's own code, which he may change meanwhile, nothing is kept. `how` are
    further arguments of `Predictor`.
    """
    of_methods = [each.implementation for each in cards.values()] + [each.implementation for each in parts]
    code = [f"{type(task).__module__}.", *of_methods]
    if not all(each.startswith(_STAYS) for each in code):
        return Predictor(skeleton, cards, task, length, **how)
    kept: dict[Hashable, Predictor] = _of_thread.__dict__.setdefault("predictors", {})
    key = (_key_of(skeleton), type(task), task, length, *sorted((name, _plain(value)) for name, value in how.items()))
    kept[key] = kept.pop(key) if key in kept else Predictor(skeleton, cards, task, length, **how)
    while len(kept) > _KEPT:
        del kept[next(iter(kept))]
    return kept[key].with_cards(cards)


def _key_of(skeleton: Skeleton) -> Hashable:
    """What of a backbone without values costs depend on, and what is computed in here."""
    model, computed_in = skeleton.model, precision_of(device_here(), skeleton.dtype)
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    chosen = [getattr(model.config, name, None) for name in _CHOSEN]
    return type(model), repr(config), *chosen, skeleton.holding, skeleton.output is None, computed_in


def _plain(value: Any) -> Hashable:
    """An argument as part of a key: arrays by what they hold."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    plain: Hashable = value.tobytes() if isinstance(value, np.ndarray) else value
    return plain
