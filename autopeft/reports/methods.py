"""What there is to know of a method before it is used: from its card, and from attaching it to a BERT-base.

The second takes seconds, and is kept between commands.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autopeft.reports.kept import kept
from autopeft.reports.overview import Overview
from autopeft.space.cards import Card, HybridCard, declared_cards, load_hybrids, require_card
from autopeft.space.parameters import Parameter, label


@dataclass(frozen=True)
class Ranges:
    """One parameter as a card declares it."""

    name: str
    default: str
    varies: str
    """What the search tries; empty where it does not vary."""


def overviews(importing: Callable[[], object] = lambda: None) -> tuple[Overview, ...]:
    """Of all methods, then of all hybrids. `importing` is called where something has to be attached first."""
    cards = declared_cards()
    return _overviews([*cards.values(), *load_hybrids(cards).values()], importing)


def overview(
    name: str, importing: Callable[[], object] = lambda: None
) -> tuple[Overview, Mapping[str, tuple[Ranges, ...]]]:
    """Of one method or hybrid; with the parameters of each of its methods. Raises AutopeftError for an unknown name."""
    require_card(name)
    cards = declared_cards()
    if name in cards:
        return _overviews([cards[name]], importing)[0], {name: _ranges(cards[name])}
    hybrid = load_hybrids(cards)[name]
    parts = {part.name: _ranges(cards[part.method], {**part.settings, **part.training}) for part in hybrid.parts}
    return _overviews([hybrid], importing)[0], parts


def _overviews(cards: Iterable[Card | HybridCard], importing: Callable[[], object]) -> tuple[Overview, ...]:
    by_name = {card.name: card for card in cards}

    def make(names: tuple[str, ...]) -> Mapping[str, Mapping[str, Any]]:
        importing()
        from autopeft.reports.attaching import attached

        return {name: asdict(attached(by_name[name])) for name in names}

    def told(name: str, facts: Mapping[str, Any]) -> Overview:
        card = by_name[name]
        return Overview(name, card.family, card.summary, card.paper, **facts)

    return tuple(told(name, facts) for name, facts in kept("methods", by_name, make).items())


def _ranges(card: Card, instead: Mapping[str, Parameter] | None = None) -> tuple[Ranges, ...]:
    """The settings of a card, then its training settings; those in `instead` as they are there."""
    declared = {**card.settings, **card.training, **(instead or {})}
    return tuple(Ranges(name, str(label(each.default)), str(each)) for name, each in declared.items())
