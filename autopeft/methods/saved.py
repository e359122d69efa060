"""What a saved method may say: its folder may come from a stranger, and loading it must run none of his code.

A class is looked up by name before anything is imported: it must be named by a shipped card, be a configuration of
peft's, or have been registered in this program. Values must be such as the cards that name the class declare, so that
no regular expression, path or number of a stranger's reaches peft, and no method asks for more than a hundred times
what its card proposes. Every refusal is an AutopeftError that names file and field.
"""

import json
import math
import re
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import peft

from autopeft.declared import read_declared
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.methods.base import Method
from autopeft.methods.registry import Configured, shipped_cards
from autopeft.space.candidate import Value
from autopeft.space.cards import PLACES, Card, import_dataclass, load_cards
from autopeft.space.parameters import Parameter, frozen

DESCRIPTION = "method.json"
_MOST_BYTES = 32 * 2**20
_MOST_PARTS = 100
_MOST_TIMES = 100
"""A number may be so many times the largest that its cards declare."""
_UNDECLARED_MOST = 10_000
"""Largest number where no card declares any."""
_LONGEST = 200
"""Characters of a text, and entries of a list."""
_MODULE = re.compile(r"[\w.]{1,100}")
_NAME = re.compile(r"[\w.+ ()-]{1,100}")
_REFERENCE = re.compile(r"\$(\w{1,100})(?:\[([\w.]{1,100})\])?")

_classes: set[type] = set()
_cards: dict[str, list[Card]] = {}
_Registered = TypeVar("_Registered", type, str, Path)


def register(what: _Registered) -> _Registered:
    """Trusts a class of your own, or all that the cards of a folder name: `autopeft.load` builds only what it knows.

    >>> @autopeft.register
    ... @dataclass(frozen=True)
    ... class MyMethod(Method): ...
    >>> autopeft.register("my-cards/")

    Raises AutopeftError for what is no method.
    """
    if isinstance(what, str | Path):
        if not Path(what).is_dir():
            raise AutopeftError(f"'{what}' is no folder of cards.")
        trust(load_cards(Path(what)))
    elif isinstance(what, type) and issubclass(what, Method) and is_dataclass(what):
        _classes.add(what)
    else:
        raise AutopeftError(
            f"{brief(what)} is neither a method's dataclass nor a folder of cards, a task's class or a metric."
        )
    return what


def trust(cards: Mapping[str, Card]) -> None:
    """Lets saved methods name what these cards name. Cards are their user's own: what they name is imported."""
    for card in cards.values():
        known = _cards.setdefault(card.implementation, [])
        if card not in known:
            known.append(card)


def require_trusted_cards(folder: Path) -> None:
    """Raises AutopeftError where cards name classes that this program does not know yet; imports nothing."""
    for file in sorted((folder / "methods").glob("*.yaml")):
        plain = read_declared(file)
        name = plain.get("implementation") if isinstance(plain, Mapping) else None
        if isinstance(name, str) and not _is_known(name):
            raise AutopeftError(
                f"the cards in '{folder}' name code of their own ({brief(name)}), which may do anything on this "
                "machine, and a database alone does not decide that it runs: if you trust it, say --space here, too, "
                f"or autopeft.register('{folder}') in Python."
            )


def read_parts(folder: Path) -> tuple[Configured, ...]:
    """The methods that a folder says it holds, checked. Raises AutopeftError."""
    file = folder / DESCRIPTION
    plain = read_json(file, f"'{folder}' holds no saved method")
    parts = plain.get("parts")
    if not isinstance(parts, list) or not parts:
        raise AutopeftError(f"'{file}' is damaged: parts must be a list of methods, not {brief(parts)}.")
    if len(parts) > _MOST_PARTS:
        raise AutopeftError(f"'{file}' holds {_MOST_PARTS} methods at most, not {len(parts):,}.")
    return tuple(_read_part(part, file) for part in parts)


def read_json(file: Path, missing: str) -> dict[str, Any]:
    """The JSON object in a file. Raises AutopeftError, which begins with `missing` where there is no such file."""
    try:
        if not file.is_file():
            raise AutopeftError(f"{missing}: {file.name} is {'no file' if file.exists() else 'missing'}.")
        if file.stat().st_size > _MOST_BYTES:
            raise AutopeftError(f"'{file}' is too large: more than {_MOST_BYTES // 2**20} MiB.")
        plain = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise AutopeftError(f"'{file}' cannot be read: {error.strerror or error}.") from error
    except RecursionError as error:
        raise AutopeftError(f"'{file}' is damaged: its values are nested too deeply.") from error
    except ValueError as error:
        raise AutopeftError(f"'{file}' is damaged: {error}.") from error
    if not isinstance(plain, dict):
        raise AutopeftError(f"'{file}' is damaged: it holds {brief(plain)}, not named values.")
    return plain


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _read_part(plain: Any, file: Path) -> Configured:
    if not isinstance(plain, dict) or plain.keys() != {"name", "implementation", "config", "settings"}:
        raise AutopeftError(
            f"'{file}' is damaged: a method has name, implementation, config and settings, not {brief(plain)}."
        )
    name, implementation = plain["name"], plain["implementation"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise AutopeftError(f"'{file}': {brief(name)} is no name of a method.")
    where = f"'{file}': {name}"
    if not isinstance(implementation, str):
        raise AutopeftError(f"{where}: implementation must name a class, not {brief(implementation)}.")
    for field in ("config", "settings"):
        if not isinstance(plain[field], dict):
            raise AutopeftError(f"{where}: {field} must hold values by name, not {brief(plain[field])}.")
    kind = _class_of(implementation, where)
    settings = {each: _plain(value, f"{where}: {each}") for each, value in plain["settings"].items()}
    check = _check_peft if issubclass(kind, peft.PeftConfig) else _check_own
    check(kind, _known().get(implementation, ()), plain["config"], settings, where)
    part = Configured(name, implementation, plain["config"], settings, kind)
    try:
        _ = part.method
    except (TypeError, ValueError) as error:
        raise AutopeftError(f"{where} cannot be built: {error}.") from error
    return part


def _class_of(implementation: str, where: str) -> type:
    """The class of that name, if a saved method may name it; nothing else is imported."""
    module, _, class_name = implementation.rpartition(".")
    found = getattr(sys.modules.get(module), class_name, None)
    if isinstance(found, type) and found in _classes:
        return found
    if implementation.startswith("peft."):
        kind = vars(peft).get(implementation.removeprefix("peft."))
        if isinstance(kind, type) and issubclass(kind, peft.PeftConfig):
            return kind
        raise AutopeftError(f"{where}: peft has no configuration {brief(implementation)}.")
    if implementation in _known():
        kind = import_dataclass(implementation, where)
        if issubclass(kind, Method):
            return kind
    advice = ""
    if all(each.isidentifier() for each in implementation.split(".")) and module and len(implementation) <= _LONGEST:
        advice = (
            f" If it is a class of your own, say so before you load it: from {module} import {class_name}; "
            f"autopeft.register({class_name}), or autopeft.register('the folder of its card')."
        )
    raise AutopeftError(
        f"{where}: {brief(implementation, 100)} is no method of autopeft or peft: it is not run.{advice}"
    )


def _is_known(implementation: str) -> bool:
    try:
        if implementation not in _known():
            _class_of(implementation, "")
    except AutopeftError:
        return False
    return True


def _known() -> Mapping[str, list[Card]]:
    """The cards by what they name."""
    known = {name: list(cards) for name, cards in _cards.items()}
    for card in shipped_cards().values():
        known.setdefault(card.implementation, []).append(card)
    return known


def _plain(value: Any, where: str) -> Value:
    """Refuses what no setting is: long texts, lists of lists, mappings."""
    whole = value if isinstance(value, list) else [value]
    scalar = all(each is None or isinstance(each, str | int | float) for each in whole)
    short = len(whole) <= _LONGEST and all(len(each) <= _LONGEST for each in whole if isinstance(each, str))
    finite = all(math.isfinite(each) for each in whole if isinstance(each, float))
    if not (scalar and short and finite):
        raise AutopeftError(f"{where} must be a number, a word, or a short list of them, not {brief(value)}.")
    return frozen(value)


def _check_own(
    kind: type, cards: Sequence[Card], config: Mapping[str, Any], settings: Mapping[str, Value], where: str
) -> None:
    known = {each.name for each in fields(kind)}
    if config:
        raise AutopeftError(f"{where}: config is for methods of peft, not {brief(dict(config))}.")
    for name, value in settings.items():
        if name not in known:
            raise AutopeftError(f"{where} has no setting {brief(name)}.")
        declared = [card.settings[name] for card in cards if name in card.settings]
        if not _fits(value, declared, words=True):
            raise _misfit(f"{where}: {name}", value, declared)


def _check_peft(
    kind: type, cards: Sequence[Card], config: Mapping[str, Any], settings: Mapping[str, Value], where: str
) -> None:
    known = {each.name: each.default for each in fields(kind)}
    for name, value in config.items():
        reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if name not in known or (reference and reference[1] not in settings):
            raise AutopeftError(f"{where}: {kind.__name__} takes no {brief(name)} from {brief(value)}.")
        if reference and reference[1] in PLACES:
            if any(f"${reference[1]}" in str(card.config.get(name)) for card in cards):
                continue
            raise AutopeftError(f"{where}: {name} takes no places in the backbone, such as {brief(value)}.")
        given = settings[reference[1]] if reference else value
        declared = list(_given_to(name, cards))
        word = isinstance(given, str) and given in _words(kind).get(name, ())
        offered = given == known[name] or word or (not declared and _is_harmless(name, given))
        if not offered and not _fits(given, declared, words=False):
            raise _misfit(f"{where}: {name}", given, declared)
    sites = settings.get("sites", ())
    if not isinstance(sites, tuple) or not all(isinstance(each, str) for each in sites):
        raise AutopeftError(f"{where}: sites must be a list such as ['q', 'v'], not {brief(sites)}.")


def _is_harmless(field: str, value: Any) -> bool:
    """Whether a value that no card declares is a short list of places in a vocabulary or among layers, or numbers by
    plain names of modules, which are regular expressions that match in one pass.
    """
    if isinstance(value, list | tuple):
        return len(value) <= _LONGEST and all(type(each) is int and 0 <= each < 2**31 for each in value)
    if not field.endswith("_pattern") or not isinstance(value, dict) or len(value) > _LONGEST:
        return False
    return all(
        _MODULE.fullmatch(name) and type(each) in (int, float) and _fits_number(each, [], [])
        for name, each in value.items()
    )


def _given_to(field: str, cards: Sequence[Card]) -> Iterator[Parameter]:
    """What cards give to one field of the configuration that they name."""
    for card in cards:
        if field in card.config:
            value = card.config[field]
            reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
            yield card.settings[reference[1]] if reference else Parameter(value)


def _fits(value: Any, declared: list[Parameter], words: bool) -> bool:
    """Whether a value is declared, or of a declared kind and not much larger; `words` and lists of our own methods'
    settings are read by the method itself.
    """
    examples = [each for one in declared for each in (one.default, *one.values, one.low, one.high) if each is not None]
    if any(type(value) is type(each) and value == each for each in examples):
        return True
    if value is None or isinstance(value, bool):
        return not declared or (isinstance(value, bool) and any(isinstance(each, bool) for each in examples))
    if isinstance(value, int | float):
        numbers = [each for each in examples if isinstance(each, int | float) and not isinstance(each, bool)]
        return _fits_number(value, numbers, declared)
    known = [each for each in examples if isinstance(each, str | tuple)]
    if words and isinstance(value, str | tuple):
        return bool(known) or not declared
    return isinstance(value, str) and any(isinstance(each, str) and _shape(each) == _shape(value) for each in known)


def _shape(word: str) -> str:
    """A word without its small numbers: `pissa_niter_4` is one of a family."""
    return re.sub(r"\d{1,2}", "0", word)


def _fits_number(value: float, examples: list[float], declared: list[Parameter]) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if not examples:
        return not declared and abs(value) <= _UNDECLARED_MOST
    if isinstance(value, float) and not any(isinstance(each, float) for each in examples):
        return False
    low, high = min(examples), max(map(abs, examples))
    most = _MOST_TIMES * high if high else 2**32
    return (value > 0 if low > 0 else value >= low) and value <= most


@cache
def _words(kind: type) -> Mapping[str, frozenset[str]]:
    """The words that a configuration's own type hints offer, by field."""
    return {name: frozenset(_literals(hint)) for name, hint in typing.get_type_hints(kind).items()}


def _literals(hint: Any) -> Iterator[str]:
    if isinstance(hint, type) and issubclass(hint, Enum):
        yield from (str(each.value) for each in hint)
    for argument in typing.get_args(hint):
        if isinstance(argument, str):
            yield argument
        else:
            yield from _literals(argument)


def _misfit(what: str, value: Any, declared: list[Parameter]) -> AutopeftError:
    example = f" such as {brief(declared[0].default)}" if declared else " that it offers"
    return AutopeftError(f"{what} must be a value{example}, not {brief(value)}.")
