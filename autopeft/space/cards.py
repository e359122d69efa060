"""Cards: one YAML file declares one method or one hybrid. A card is checked when it is read; errors name file and
field.

A method's card names the class that implements it. `peft.SomeConfig` is configured through `config`; any other class is
constructed with the settings themselves. Settings and config fields must exist there. So a folder of cards is code:
what its cards name is imported, when they are loaded; not when only what they declare is asked for.
"""

import importlib
import inspect
from collections.abc import Container, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from autopeft.declared import read_declared
from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief
from autopeft.shipped import shipped
from autopeft.space.parameters import Parameter, read_parameter

FAMILIES = ("additive", "selective", "reparameterised", "hybrid")
SIZES = ("bottleneck", "rank", "length", "dimensions", "count")
"""Settings that say how large a method is; the first that a method has counts."""
PLACES = ("sites", "layers")
"""Settings of peft's methods that our own map of the backbone reads."""
_METHOD_FIELDS = {"summary", "family", "paper", "implementation", "config", "settings", "training"}
_HYBRID_FIELDS = {"summary", "paper", "parts"}
OF_METHODS = ("learning_rate", "weight_decay")
"""How the tensors of a method are trained."""


@dataclass(frozen=True)
class Card:
    """A method as declared."""

    name: str
    """The file's name without its ending."""
    summary: str
    family: str
    paper: str
    implementation: str
    """`peft.SomeConfig` or `package.module.Class`."""
    config: Mapping[str, Any]
    """For peft: field of its config class -> value, or `$setting`. A setting that no field receives is a field itself,
    but for those that say where the method goes.
    """
    settings: Mapping[str, Parameter]
    """Hyperparameters."""
    training: Mapping[str, Parameter]
    """learning_rate and weight_decay of the method's tensors."""


def size_among(settings: Container[str]) -> str:
    """The name of the setting that says how large a method is; empty where none does."""
    return next((name for name in SIZES if name in settings), "")


@dataclass(frozen=True)
class HybridPart:
    """A method in a hybrid, with what the hybrid says differently from the method's own card."""

    name: str
    """The method's, unless it occurs more than once."""
    method: str
    settings: Mapping[str, Parameter]
    training: Mapping[str, Parameter]


@dataclass(frozen=True)
class HybridCard:
    """A hybrid as declared."""

    name: str
    summary: str
    paper: str
    parts: tuple[HybridPart, ...]
    family: str = "hybrid"


def load_cards(folder: Path | None = None) -> Mapping[str, Card]:
    """All methods' cards by name: the shipped ones, or those in `folder`/methods. Raises AutopeftError."""
    cards = declared_cards(folder)
    for card in cards.values():
        _check_implementation(card, _methods_of(folder) / f"{card.name}.yaml")
    return cards


def declared_cards(folder: Path | None = None) -> Mapping[str, Card]:
    """The same cards, without a look at the classes that they name: nothing is imported. Raises AutopeftError."""
    return {file.stem: _read_card(file) for file in sorted(_methods_of(folder).glob("*.yaml"))}


def load_hybrids(cards: Mapping[str, Card], folder: Path | None = None) -> Mapping[str, HybridCard]:
    """All hybrids' cards by name; their parts must be among `cards`. Raises AutopeftError."""
    files = sorted(((folder or shipped("search_spaces")) / "hybrids").glob("*.yaml"))
    return {file.stem: _read_hybrid(file, cards) for file in files}


def require_card(name: str) -> None:
    """Raises AutopeftError for a name that no method and no hybrid has."""
    cards = declared_cards()
    if name not in (known := (*cards, *load_hybrids(cards))):
        raise unknown("method", name, known)


def _methods_of(folder: Path | None) -> Path:
    return (folder or shipped("search_spaces")) / "methods"


def _read_card(file: Path) -> Card:
    plain = read_yaml(file, _METHOD_FIELDS)
    for name in ("summary", "family", "paper", "implementation", "training"):
        if not plain.get(name):
            raise AutopeftError(f"{file}: '{name}' is missing.")
        if name != "training" and not isinstance(plain[name], str):
            raise AutopeftError(f"{file}: '{name}' must be a text, not {brief(plain[name])}.")
    if plain["family"] not in FAMILIES:
        raise AutopeftError(f"{file}: family '{plain['family']}' is none of {', '.join(FAMILIES)}.")
    config = plain.get("config", {})
    if not isinstance(config, Mapping):
        raise AutopeftError(f"{file}: config: must hold one line per field, not {brief(config)}.")
    settings = _parameters(plain.get("settings", {}), file, "settings")
    if plain["implementation"].startswith("peft."):
        received = {str(value)[1:].split("[")[0] for value in config.values() if str(value).startswith("$")}
        config = {**config, **{name: f"${name}" for name in settings if name not in (*received, *PLACES)}}
    training = _parameters(plain["training"], file, "training")
    for name in training:
        if name not in OF_METHODS:
            raise AutopeftError(f"{file}: training: '{name}' is none of {', '.join(OF_METHODS)}.")
    if "learning_rate" not in training:
        raise AutopeftError(f"{file}: training: a learning_rate is missing.")
    return Card(
        file.stem,
        plain["summary"].strip(),
        plain["family"],
        plain["paper"].strip(),
        plain["implementation"],
        config,
        settings,
        training,
    )


def _check_implementation(card: Card, file: Path) -> None:
    kind = import_dataclass(card.implementation, str(file))
    known = {each.name for each in fields(kind)}
    if card.implementation.startswith("peft."):
        named, where = card.config, "config"
        for field, value in card.config.items():
            reference = value[1:].split("[")[0] if isinstance(value, str) and value.startswith("$") else None
            if reference is not None and reference not in card.settings:
                raise AutopeftError(f"{file}: config: {field}: there is no setting '{reference}'.")
    else:
        named, where = card.settings, "settings"
    for name in named:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise AutopeftError(f"{file}: {where}: {card.implementation} has no field '{name}'.{hint}")


def import_dataclass(path: str, where: str) -> type:
    """The dataclass at `package.module.Class`. Raises AutopeftError when there is none."""
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise AutopeftError(f"{where}: implementation: cannot import '{path}': {error}.") from error
    if not (inspect.isclass(kind) and is_dataclass(kind)):
        raise AutopeftError(f"{where}: implementation: '{path}' is not a dataclass.")
    return kind


def _read_hybrid(file: Path, cards: Mapping[str, Card]) -> HybridCard:
    plain = read_yaml(file, _HYBRID_FIELDS)
    parts = plain.get("parts")
    if not isinstance(parts, list) or len(parts) < 2:
        raise AutopeftError(f"{file}: parts: a hybrid needs at least two.")
    read = []
    for number, part in enumerate(parts):
        where = f"parts[{number}]"
        if not isinstance(part, Mapping) or part.get("method") not in cards:
            named = part.get("method") if isinstance(part, Mapping) else part
            raise AutopeftError(f"{file}: {where}: method '{named}' has no card; known: {', '.join(sorted(cards))}.")
        card = cards[part["method"]]
        settings = _parameters(part.get("settings", {}), file, f"{where}: settings")
        training = _parameters(part.get("training", {}), file, f"{where}: training")
        for name in settings:
            if name not in card.settings:
                raise AutopeftError(f"{file}: {where}: settings: '{card.name}' has no setting '{name}'.")
        for name in training:
            if name not in OF_METHODS:
                raise AutopeftError(f"{file}: {where}: training: '{name}' is none of {', '.join(OF_METHODS)}.")
        read.append(HybridPart(str(part.get("name", card.name)), card.name, settings, training))
    if len({part.name for part in read}) < len(read):
        raise AutopeftError(f"{file}: parts: a method that occurs more than once needs a name for each.")
    return HybridCard(
        file.stem, str(plain.get("summary", "")).strip(), str(plain.get("paper", "")).strip(), tuple(read)
    )


def _parameters(plain: Any, file: Path, where: str) -> Mapping[str, Parameter]:
    if not isinstance(plain, Mapping):
        raise AutopeftError(f"{file}: {where}: must hold one line per parameter.")
    return {name: read_parameter(value, f"{file}: {where}: {name}") for name, value in plain.items()}


def read_yaml(file: Path, known: set[str]) -> Mapping[str, Any]:
    """A YAML mapping whose fields are among `known`. Raises AutopeftError naming file and field."""
    try:
        plain = read_declared(file)
    except OSError as error:
        raise AutopeftError(f"cannot read '{file}': {error.strerror}.") from error
    if not isinstance(plain, Mapping):
        raise AutopeftError(f"{file}: must hold fields such as {', '.join(sorted(known))}.")
    for name in plain:
        if name not in known:
            close = get_close_matches(str(name), known, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else f" It may have {', '.join(sorted(known))}."
            raise AutopeftError(f"{file}: there is no field '{name}'.{hint}")
    return plain
