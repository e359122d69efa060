"""peft's configurations from plain values: every field by its own name, nested configurations as mappings."""

import copy
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import peft

from autopeft.errors import AutopeftError


@cache
def fields_of(config_class: str) -> tuple[str, ...]:
    """The fields of a method; none of those that say of every method what model it is for, and for what."""
    common = {each.name for each in fields(peft.PeftConfig)}
    return tuple(each.name for each in fields(getattr(peft, config_class)) if each.name not in common)


def new_config(config_class: str, values: Mapping[str, Any]) -> Any:
    """A configuration of these values. Raises what peft raises."""
    kind = getattr(peft, config_class)
    hints = typing.get_type_hints(kind)
    return kind(**{name: _nested(hints.get(name), copy.deepcopy(value)) for name, value in values.items()})


def require_possible(config_class: str, values: Mapping[str, Any]) -> None:
    """Raises AutopeftError in peft's words where no configuration can be made of these values."""
    try:
        new_config(config_class, values)
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise AutopeftError(f"peft refuses {config_class}: {reason}.") from error


def _nested(hint: Any, value: Any) -> Any:
    """A mapping as the configuration that the field's type names."""
    if isinstance(value, Mapping):
        for kind in (hint, *typing.get_args(hint)):
            if isinstance(kind, type) and is_dataclass(kind):
                return kind(**value)
    return value
