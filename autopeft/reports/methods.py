"""What there is to know of a method before it is used: from its card, and from attaching it to a BERT-base."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import BertConfig

from autopeft.backbone.load import Skeleton, load_skeleton
from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.registry import Configured, method
from autopeft.reports.overview import Overview
from autopeft.space.cards import Card, HybridCard, load_cards, load_hybrids, require_card
from autopeft.space.parameters import Parameter, label


@dataclass(frozen=True)
class Ranges:
    """One parameter as a card declares it."""

    name: str
    default: str
    varies: str
    """What the search tries; empty where it does not vary."""


def overviews() -> tuple[Overview, ...]:
    """Of all methods, then of all hybrids."""
    cards = load_cards()
    skeleton = load_skeleton(BertConfig())
    both: list[Card | HybridCard] = [*cards.values(), *load_hybrids(cards).values()]
    return tuple(_overview(card, skeleton) for card in both)


def overview(name: str) -> tuple[Overview, Mapping[str, tuple[Ranges, ...]]]:
    """Of one method or hybrid; with the parameters of each of its methods. Raises AutopeftError for an unknown name."""
    require_card(name)
    cards = load_cards()
    if name in cards:
        return _overview(cards[name], load_skeleton(BertConfig())), {name: _ranges(cards[name])}
    hybrids = load_hybrids(cards)
    parts = {part.name: _ranges(cards[part.method], {**part.settings, **part.training}) for part in hybrids[name].parts}
    return _overview(hybrids[name], load_skeleton(BertConfig())), parts


def _overview(card: Card | HybridCard, skeleton: Skeleton) -> Overview:
    chosen = method(card.name)
    exports = isinstance(chosen, Configured) and chosen.implementation.startswith("peft.")
    try:
        with torch.device("meta"), attach(skeleton.model, chosen, skeleton.sites) as attached:
            trainable, merges = attached.count, all(part.mergeable for part in attached.parts)
            freezes = bool(attached.frozen)
    except CannotAttach:
        trainable, merges, freezes = None, False, False
    may_freeze = freezes or (isinstance(card, Card) and "layers" in card.settings)
    return Overview(card.name, card.family, card.summary, card.paper, trainable, merges, exports, may_freeze)


def _ranges(card: Card, instead: Mapping[str, Parameter] | None = None) -> tuple[Ranges, ...]:
    """The settings of a card, then its training settings; those in `instead` as they are there."""
    declared = {**card.settings, **card.training, **(instead or {})}
    return tuple(Ranges(name, str(label(each.default)), str(each)) for name, each in declared.items())
