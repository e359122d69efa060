"""JSON schemas of our dataclasses, made from their fields and described by the docstrings of these.

They tell programs how values are written: what JSON cannot hold is null, moments are text. Nothing is checked by them:
the dataclasses check themselves, and answer a slip by a sentence.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from autopeft.objectives import Limits
from autopeft.plan import field_docs

_PLAIN: Mapping[Any, str] = {str: "string", bool: "boolean", int: "integer"}
_TEXT = {"type": "string"}


def schema_of(kind: type, *leave_out: str) -> dict[str, Any]:
    """Of a dataclass as we write it; some fields are left out, at whatever depth they are."""
    hints, docs = get_type_hints(kind), field_docs(kind)
    told = [each.name for each in fields(kind) if each.name not in leave_out]
    properties = {
        name: _written(hints[name], leave_out) | ({"description": docs[name]} if name in docs else {}) for name in told
    }
    return {"type": "object", "properties": properties, "required": told}


def schema_as_given(kind: type, *leave_out: str) -> dict[str, Any]:
    """Of a dataclass as users write it: sizes and shares as texts or numbers, several names also as one text, and what
    has a default may be left out.
    """
    hints, docs = get_type_hints(kind), field_docs(kind)
    told = [each for each in fields(kind) if each.name not in leave_out and each.name in docs]
    properties: dict[str, Any] = {}
    for each in told:
        shape = {"anyOf": [_TEXT, {"type": "number"}]} if issubclass(kind, Limits) else _given(hints[each.name])
        known = each.default not in (None, MISSING) and not isinstance(each.default, tuple)
        properties[each.name] = {**shape, "description": docs[each.name]} | ({"default": each.default} if known else {})
    needed = [each.name for each in told if each.default is MISSING and each.default_factory is MISSING]
    return {"type": "object", "properties": properties} | ({"required": needed} if needed else {})


def _given(hint: Any) -> dict[str, Any]:
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return _given(next(each for each in arguments if each is not NoneType))
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint is float:
        return {"anyOf": [_TEXT, {"type": "number"}]}
    if is_dataclass(hint) and isinstance(hint, type):
        return schema_as_given(hint)
    if get_origin(hint) is tuple:
        return {"anyOf": [{"type": "array", "items": _given(arguments[0])}, _TEXT]}
    return {"type": "object", "additionalProperties": _given(arguments[1])}


def _written(hint: Any, leave_out: tuple[str, ...]) -> dict[str, Any]:
    arguments, origin = get_args(hint), get_origin(hint)
    if origin in (Union, UnionType):
        return {"anyOf": [_written(each, leave_out) for each in arguments]}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint is NoneType:
        return {"type": "null"}
    if hint is float:
        return {"type": ["number", "null"]}
    if hint is datetime:
        return {**_TEXT, "format": "date-time"}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {**_TEXT, "enum": [each.value for each in hint]}
    if isinstance(hint, type) and is_dataclass(hint):
        return schema_of(hint, *leave_out)
    if origin is tuple:
        return {"type": "array", "items": _written(arguments[0], leave_out)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _written(arguments[1], leave_out)}
    return {}
