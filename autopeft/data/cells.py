"""Lists in cells: as Parquet and JSON hold them, or written into a CSV as JSON or as Python and pandas write them.

`['a' 'b']` without a comma is how numpy writes two items; Python would read it as one. Nothing is run.
"""

import ast
import json
import math
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd

from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_HOW = 'a list is written as JSON, such as ["a", "b"]'
_PIECES = re.compile(
    r"""\s*(?:(?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\w+)"""
    r"""|(?P<open>[\[({])|(?P<close>[\])}])|(?P<other>[,:])|(?P<wrong>\S))""",
    re.DOTALL,
)
"""The parts of lists, tuples and mappings as Python writes them."""
_WORDS = {"None": "None", "nan": "None", "True": "True", "False": "False"}
_DEEPEST = 8
_DIGITS = 300
"""Of a number; Python refuses to read some thousand."""


def is_missing(cell: object) -> bool:
    """Whether a cell holds nothing."""
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and math.isnan(cell))


def is_blank(cell: object) -> bool:
    """The same, or nothing but blanks."""
    return is_missing(cell) or (isinstance(cell, str) and not cell.strip())


def holds_list(cell: object) -> bool:
    """Whether a cell is meant as a list, whatever may be wrong with it."""
    return isinstance(cell, np.ndarray | list | tuple) or (isinstance(cell, str) and cell.lstrip()[:1] == "[")


def list_in(cell: object) -> list[Any]:
    """The items of a cell that holds a list. Raises AutopeftError, which says what the cell is instead."""
    if isinstance(cell, np.ndarray):
        if cell.ndim != 1:
            raise AutopeftError(f"{brief(cell)} is no list; {_HOW}.")
        return list(cell.tolist())
    if isinstance(cell, list | tuple):
        return list(cell)
    if not isinstance(cell, str):
        raise AutopeftError(f"{brief(cell)} is no list; {_HOW}.")
    if not cell.strip():
        raise AutopeftError(f"an empty cell is no list; {_HOW}, and one without items as [].")
    if not cell.lstrip().startswith(("[", "(")):
        raise AutopeftError(f"{brief(cell)} is no list; {_HOW}.")
    try:
        return list(json.loads(cell))
    except (ValueError, RecursionError):
        return _written_by_python(cell)


def _written_by_python(cell: str) -> list[Any]:
    """The items of a list or tuple of Python's plain values. Raises AutopeftError."""
    pieces: list[str] = []
    depth, after_value = 0, False
    for piece in _PIECES.finditer(cell.strip()):
        kind, text = piece.lastgroup, piece[0].strip()
        if kind == "wrong":
            raise AutopeftError(f"{brief(cell)} is no list that can be read{_why(cell, text)}; {_HOW}.")
        if kind == "value" and text.isidentifier() and text not in _WORDS:
            raise AutopeftError(f"{brief(cell)} is no list that can be read: {brief(text)} has no quotes; {_HOW}.")
        if kind == "value" and text[0] not in "'\"" and len(text) > _DIGITS:
            raise AutopeftError(f"{brief(cell)} holds a number of {len(text):,} characters; {_HOW}.")
        if kind in ("value", "open") and after_value:
            pieces.append(",")
        pieces.append(_WORDS.get(text, text))
        after_value = kind in ("value", "close")
        depth += (kind == "open") - (kind == "close")
        if depth > _DEEPEST:
            raise AutopeftError(f"{brief(cell)} is nested too deeply; {_HOW}.")
        if depth < 1 and piece.end() < len(piece.string):
            raise AutopeftError(f"{brief(cell)} is no list that can be read: it goes on after its end; {_HOW}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a backslash that Python would not have written
            value = ast.literal_eval("".join(pieces))
    except (ValueError, SyntaxError, TypeError) as error:
        raise AutopeftError(f"{brief(cell)} is no list that can be read; {_HOW}.") from error
    if not isinstance(value, list | tuple):
        raise AutopeftError(f"{brief(cell)} is no list; {_HOW}.")
    return list(value)


def _why(cell: str, wrong: str) -> str:
    if "..." in cell or "…" in cell:
        return ": parts of it were left out with dots when it was written"
    return f": {brief(wrong)} stands outside of quotes"
