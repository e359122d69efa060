"""From a name to a method: `method("lora", rank=8)`. Found by cards, so that a new method edits no list."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, cached_property
from typing import Any

from autopeft.errors import AutopeftError, unknown
from autopeft.methods.base import Method
from autopeft.methods.peft import PeftMethod
from autopeft.methods.peft_config import fields_of
from autopeft.space.candidate import Part, Value
from autopeft.space.cards import Card, HybridCard, import_dataclass, load_cards, load_hybrids
from autopeft.space.parameters import Parameter, frozen

_PEFT = "peft."
"""What names of configurations of peft's begin with."""


@dataclass(frozen=True)
class Configured:
    """A method by its card's name, at given settings."""

    name: str
    implementation: str
    """The class that implements it, as in the card."""
    config: Mapping[str, Any]
    """For peft: what its config class receives, as in the card."""
    settings: Mapping[str, Value]
    """Every setting, defaults included."""
    kind: type | None = field(default=None, compare=False, repr=False)
    """That class, where it was looked up already; else it is imported by its name."""

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"<method {self.name}: {settings}>" if settings else f"<method {self.name}>"

    @cached_property
    def method(self) -> Method:
        """Raises AutopeftError for a value that the method refuses."""
        kind = self.kind or import_dataclass(self.implementation, self.name)
        if self.implementation.startswith(_PEFT):
            return PeftMethod(kind.__name__, self.config, self.settings)
        built: Method = kind(**self.settings)
        return built

    def to_dict(self) -> dict[str, Any]:
        """Plain values, enough to build it again where its card is unknown: `methods/saved.py` reads them."""
        return {
            "name": self.name,
            "implementation": self.implementation,
            "config": dict(self.config),
            "settings": dict(self.settings),
        }


@dataclass(frozen=True)
class Hybrid:
    """Several methods to be attached together."""

    name: str
    parts: tuple[Configured, ...]


def method(name: str, **settings: Any) -> Configured | Hybrid:
    """A method or hybrid by name. Settings that are not given have their card's defaults; a method of peft's takes the
    fields of its configuration, too.

    >>> method("lora", rank=8, sites=["q", "v"])
    >>> method("lora", rank=8, rank_pattern={"q_proj": 16})
    >>> method("lora_parallel", lora={"rank": 4}, adapter={"bottleneck": 32})

    Raises AutopeftError for an unknown name or setting, with the nearest known one.
    """
    cards, hybrids = _shipped_cards()
    if name in cards:
        return configured(cards[name], settings)
    if name not in hybrids:
        raise unknown("method", name, [*cards, *hybrids])
    return _hybrid(hybrids[name], cards, settings)


def configured(card: Card, settings: Mapping[str, Any]) -> Configured:
    """A method from its card; of peft's, what is no setting may be any field of the configuration, by its own name.

    Raises AutopeftError for an unknown setting or a value that the method refuses.
    """
    full = {name: parameter.default for name, parameter in card.settings.items()}
    own: dict[str, Any] = {}
    passed_on = fields_of(card.implementation.removeprefix(_PEFT)) if card.implementation.startswith(_PEFT) else ()
    for name, value in settings.items():
        if name in card.settings:
            full[name] = frozen(value)
            _check(f"{name} of {card.name}", full[name], card.settings[name])
        elif name in passed_on:
            own[name] = value
        else:
            near = get_close_matches(name, passed_on, n=1)
            raise unknown(f"setting of {card.name}", name, [*card.settings, *near])
    built = Configured(card.name, card.implementation, {**card.config, **own}, full)
    method = built.method
    if own and isinstance(method, PeftMethod):
        method.require_possible()
    return built


def _check(what: str, value: Value, parameter: Parameter) -> None:
    """Refuses a value that is not of the kind and sign of those that its card declares."""
    declared = [each for each in (parameter.default, *parameter.values, parameter.low) if each is not None]
    example = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    kinds = {type(each) for each in declared}
    if kinds == {tuple} and not (isinstance(value, tuple) and value):
        raise AutopeftError(f"{what} must be a list such as {example}, not {value!r}.")
    if kinds == {bool} and not isinstance(value, bool):
        raise AutopeftError(f"{what} must be true or false, not {value!r}.")
    numbers = [each for each in declared if isinstance(each, int | float)]
    if not kinds or not kinds <= {int, float}:
        return
    whole = kinds == {int}
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise AutopeftError(f"{what} must be a {'whole ' * whole}number such as {example}, not {value!r}.")
    if value <= 0 < min(numbers) or value < 0 == min(numbers):
        raise AutopeftError(f"{what} must {'be above' if min(numbers) else 'not be below'} 0, not {value}.")


def configured_parts(parts: tuple[Part, ...], cards: Mapping[str, Card]) -> tuple[Configured, ...]:
    """The methods of a candidate, by the cards of its space. Raises AutopeftError where a card is gone."""
    for part in parts:
        if part.method not in cards:
            raise unknown("method", part.method, cards)
    return tuple(configured(cards[part.method], part.settings) for part in parts)


def _hybrid(card: HybridCard, cards: Mapping[str, Card], settings: Mapping[str, Any]) -> Hybrid:
    for name, given in settings.items():
        if name not in {part.name for part in card.parts}:
            raise unknown(f"part of {card.name}", name, (part.name for part in card.parts))
        if not isinstance(given, Mapping):
            raise AutopeftError(
                f"settings of {name} in {card.name} must be a mapping such as {{'rank': 4}}, not {given!r}."
            )
    parts = []
    for part in card.parts:
        own = {name: parameter.default for name, parameter in part.settings.items()}
        parts.append(configured(cards[part.method], own | dict(settings.get(part.name, {}))))
    return Hybrid(card.name, tuple(parts))


@cache
def _shipped_cards() -> tuple[Mapping[str, Card], Mapping[str, HybridCard]]:
    cards = load_cards()
    return cards, load_hybrids(cards)


def shipped_cards() -> Mapping[str, Card]:
    """The shipped methods' cards by name."""
    return _shipped_cards()[0]
