"""Texts as a person gives them to a trained model: one or many, single or in pairs, as in training.

A text is a string. A pair is a tuple of two (in a list of many also a list of two). Many are a list, an array or a
column of a table. What is something else is refused with the row that is, instead of being answered in some way.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.foreign import brief


def rows_of(texts: Any, columns: Sequence[str]) -> tuple[list[tuple[str, ...]], bool]:
    """The rows to encode, and whether only one was given, not a list; `columns` are the texts of a row in training.

    Raises AutopeftError.
    """
    if isinstance(texts, str | tuple):
        return [_row(texts, columns, "this")], True
    many = texts.tolist() if hasattr(texts, "tolist") else texts
    if not isinstance(many, Sequence | Iterator) or isinstance(many, str | bytes):
        raise AutopeftError(f"give {_expected(columns)}, or a list of such, not {brief(texts)}.")
    return [_row(each, columns, f"row {number}") for number, each in enumerate(many)], False


def _row(given: Any, columns: Sequence[str], what: str) -> tuple[str, ...]:
    row = (given,) if isinstance(given, str) else given
    if not isinstance(row, tuple | list) or len(row) != len(columns) or not all(isinstance(each, str) for each in row):
        raise AutopeftError(
            f"this model was trained on {_expected(columns)} ({', '.join(columns)}); {what} is {brief(given)}."
        )
    for text in row:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise AutopeftError(f"{what} is no text: {brief(text)} holds half a character.") from error
    return tuple(row)


def _expected(columns: Sequence[str]) -> str:
    return "pairs of texts such as ('one', 'other')" if len(columns) == 2 else "single texts such as 'a text'"
