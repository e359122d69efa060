"""A record whose every text may be printed, whoever wrote it: reports read no other.

A terminal would obey control characters, and a spreadsheet a formula.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from autopeft.foreign import printable

_Value = TypeVar("_Value")
_FORMULA = ("=", "+", "-", "@")


def harmless(value: _Value) -> _Value:
    """The same value with control characters escaped in all its texts, but for ends of lines."""
    made: Any = value
    if type(made) is str:
        made = printable(made)
    elif isinstance(value, Mapping):
        made = {harmless(key): harmless(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        made = type(value)(harmless(item) for item in value)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {each.name: (getattr(value, each.name), harmless(getattr(value, each.name))) for each in fields(value)}
        changed = {name: new for name, (old, new) in parts.items() if new is not old and new != old}
        made = replace(value, **changed) if changed else value
    return made  # type: ignore[no-any-return]


def harmless_cell(value: Any) -> Any:
    """What a spreadsheet may open: a text that it would take for a formula begins with an apostrophe; numbers stay."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
