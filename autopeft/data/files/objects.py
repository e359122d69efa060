"""Tables of JSON: a list of objects, one object on each line or one after another, a list below a key, pandas' own."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from autopeft.data.files.contents import Request, decoded, kind_of, storable
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_BLANKS = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_HOW = "a file holds a list of objects, or one object on each line"
_EMPTY = 64
"""Bytes that an empty object takes in memory, of which a file needs two."""


def read_objects(path: Path, request: Request) -> pd.DataFrame:
    """A table of the objects' values. Raises AutopeftError."""
    text = decoded(path, request.allowance)
    request.allowance.take(_EMPTY * (text.count("{") + text.count("[")), path)
    if text.lstrip().startswith("["):
        objects = _whole(path, text, 1)
    else:
        objects = list(_on_lines(path, text) if _starts_with_a_line(text) else _one_after_another(path, text))
        if len(objects) == 1 and isinstance(objects[0], dict) and kind_of(path) == ".json":
            objects = _within(path, objects[0], request)
    for row, each in enumerate(objects, 1):
        if not isinstance(each, dict):
            raise AutopeftError(
                f'row {row} of \'{path}\' is no object such as {{"text": …, "label": …}}, but {brief(each)}.'
            )
    names = {name for each in objects for name in each}
    if any(storable(name) != name for name in names):
        objects = [{storable(name): value for name, value in each.items()} for each in objects]
    request.allowance.take(8 * len(objects) * len(names), path)
    return pd.DataFrame(objects, dtype=object)


def _starts_with_a_line(text: str) -> bool:
    """Whether the first line is whole."""
    try:
        json.loads(text.lstrip().partition("\n")[0])
    except (ValueError, RecursionError):
        return False
    return True


def _on_lines(path: Path, text: str) -> Iterator[Any]:
    return (_whole(path, line, number) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _one_after_another(path: Path, text: str) -> Iterator[Any]:
    at = _after_blanks(text, 0)
    while at < len(text):
        value, end = _value(path, text, at, 1)
        yield value
        at = _after_blanks(text, end)


def _whole(path: Path, text: str, line: int) -> Any:
    """The one value of a text that begins on this line."""
    value, end = _value(path, text, _after_blanks(text, 0), line)
    if (rest := _after_blanks(text, end)) < len(text):
        raise _invalid(path, line + text.count("\n", 0, rest), "Extra data")
    return value


def _value(path: Path, text: str, at: int, line: int) -> tuple[Any, int]:
    """A value and its end. Raises AutopeftError."""
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise _invalid(path, line + error.lineno - 1, error.msg) from error
    except RecursionError as error:
        raise AutopeftError(f"'{path}' holds objects that are nested too deeply; {_HOW}.") from error
    except ValueError as error:
        where = line + text.count("\n", 0, at)
        raise AutopeftError(
            f"'{path}' holds a number of more digits than can be read, in line {where} or after it; "
            "write it as a text, in quotes."
        ) from error


def _invalid(path: Path, line: int, reason: str) -> AutopeftError:
    return AutopeftError(f"line {line} of '{path}' is no valid JSON: {reason}; {_HOW}.")


def _after_blanks(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks else at


def _within(path: Path, only: Mapping[str, Any], request: Request) -> list[Any]:
    """The rows of a file's only object: below its one key with a list of objects, by columns as pandas writes them."""
    lists = {name: value for name, value in only.items() if _is_rows(value)}
    if len(lists) == 1:
        ((name, rows),) = lists.items()
        request.say(f"the rows of '{path.name}' are those below its key {brief(name)}")
        return list(rows)
    if lists:
        raise AutopeftError(
            f"'{path}' holds several lists of objects, below {brief(', '.join(lists), 200)}; save those that are rows "
            "as a file of their own, such as train.json."
        )
    values = list(only.values())
    if _are_columns(values):
        return [dict(zip(only, row, strict=True)) for row in zip(*values, strict=True)]
    if values and all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values):
        if all(map(str.isdigit, values[0])):
            return [{name: value[row] for name, value in only.items()} for row in values[0]]
        if all(map(str.isdigit, only)):
            return values
    if any(isinstance(value, (dict, list)) for value in values):
        raise AutopeftError(
            f"'{path}' is one object with the keys {brief(', '.join(only), 200)}, and below none of them lies a list "
            f"of objects; {_HOW}."
        )
    return [only]


def _are_columns(values: Sequence[object]) -> bool:
    """Whether they are lists of equal length, at least one of single values: lists of lists may be splits."""
    lists = [value for value in values if isinstance(value, list)]
    single = any(not any(isinstance(each, (dict, list)) for each in value) for value in lists)
    return len(values) > 1 and len(lists) == len(values) and len(set(map(len, lists))) == 1 and single


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)
