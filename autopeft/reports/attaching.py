"""What attaching a method to a BERT-base of shapes tells of it."""

from dataclasses import dataclass
from functools import cache

import torch
from transformers import BertConfig

from autopeft.backbone.load import Skeleton, load_skeleton
from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.registry import Configured, method
from autopeft.space.cards import Card, HybridCard


@dataclass(frozen=True)
class OnBert:
    """A method or hybrid at its defaults; the fields of `methods.Overview` that no card tells."""

    trainable: int | None
    merges: bool
    exports: bool
    may_freeze: bool


def attached(card: Card | HybridCard) -> OnBert:
    """What its method is on a BERT-base."""
    chosen, skeleton = method(card.name), _bert()
    exports = isinstance(chosen, Configured) and chosen.implementation.startswith("peft.")
    try:
        with torch.device("meta"), attach(skeleton.model, chosen, skeleton.sites) as on:
            trainable, merges = on.count, all(part.mergeable for part in on.parts)
            freezes = bool(on.frozen)
    except CannotAttach:
        trainable, merges, freezes = None, False, False
    return OnBert(trainable, merges, exports, freezes or (isinstance(card, Card) and "layers" in card.settings))


@cache
def _bert() -> Skeleton:
    return load_skeleton(BertConfig())
