"""Texts in words: rows of words with a tag each, and what a person asks a model of such.

A row is a list of words and one of tags, or a text with marked spans, which is cut into words by the rule of
`data.spans`. A text to predict is cut by the same rule.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from autopeft.data.cells import list_in
from autopeft.data.files.contents import storable
from autopeft.data.rows import is_single
from autopeft.data.spans import spans_in, tagged, words
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.tasks.classes import name_of


class Sentence(NamedTuple):
    """A row, read."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    widened: int = 0
    """Spans that were given the whole of a word."""
    lost: int = 0
    """Spans whose words are an earlier one's."""


Asked = str | tuple[str, ...]
"""A text, or its words."""


def sentences(frame: pd.DataFrame, words: str, tags: str, split: str) -> list[Sentence]:
    """Every row, of the columns of words (or texts) and tags (or spans).

    Raises AutopeftError that names the first which cannot be read.
    """
    found = []
    for row, cells in enumerate(zip(frame[words], frame[tags], strict=True), 1):
        try:
            found.append(_sentence(*cells))
        except AutopeftError as error:
            raise AutopeftError(f"row {row} of the {split} split: {error}") from error
    return found


def readable(frame: pd.DataFrame, words: str, tags: str) -> Iterator[Sentence | None]:
    """Every row; None for one that `sentences` would not take."""
    for cells in zip(frame[words], frame[tags], strict=True):
        try:
            yield _sentence(*cells)
        except AutopeftError:
            yield None


def words_of(asked: Asked) -> Sequence[str]:
    """The words of a text, cut as those of texts with spans are."""
    return asked if isinstance(asked, tuple) else [asked[start:end] for start, end in words(asked)]


def asked_of(given: Any) -> tuple[list[Asked], bool]:
    """What a person asks, and whether that was a single text, not a list. Raises AutopeftError.

    A string is a text, a tuple its words; a list holds texts, or lists or tuples of words. So a list of strings is one
    of texts, as other tools take it. Where all of them are single words it is refused, because it may well be one text.
    An array or a column of a table is one of texts.
    """
    if isinstance(given, str | tuple):
        return [_asked(given, "this")], True
    many = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(many, list | Iterator):
        raise AutopeftError(f"give a text, a tuple of its words, or a list of such, not {brief(given)}.")
    rows = [_asked(each, f"row {number}") for number, each in enumerate(many)]
    if isinstance(given, list) and len(rows) > 1 and all(isinstance(row, str) and not _is_cut(row) for row in rows):
        raise AutopeftError(
            f"{brief(given)} may be one text or many: give the words of one text as a tuple, or in a list of their own "
            "([[…]]); many texts of one word as an array, or one by one."
        )
    return rows, False


def _is_cut(text: str) -> bool:
    return len(text.split()) > 1


def _asked(given: Any, what: str) -> Asked:
    if isinstance(given, str):
        return storable(given)
    if not isinstance(given, list | tuple):
        raise AutopeftError(f"{what} is neither a text nor a list of its words, but {brief(given)}.")
    if not given:
        raise AutopeftError(f"{what} is a text of no words.")
    return _checked(given)


def _sentence(text: Any, marks: Any) -> Sentence:
    """Words and tags of two cells. Raises AutopeftError."""
    items = list_in(marks)
    if _is_text(text, items):
        read = tagged(storable(text), spans_in(items))
        sentence = Sentence(read.tokens, read.tags, read.widened, read.lost)
    else:
        tags = [name_of(each) for each in items]
        if None in tags:
            raise AutopeftError(f"the tag {brief(items[tags.index(None)])} is no name.")
        sentence = Sentence(_checked(list_in(text)), tuple(map(str, tags)))
    if len(sentence.words) != len(sentence.tags):
        raise AutopeftError(f"{len(sentence.words)} tokens have {len(sentence.tags)} tags; each has one.")
    if not sentence.words:
        raise AutopeftError("it has no tokens; leave it out.")
    return sentence


def _is_text(cell: Any, marks: Sequence[Any]) -> bool:
    """Whether a cell is a text, beside spans, and not a list of words."""
    if not isinstance(cell, str):
        return False
    if marks:
        return not is_single(marks[0])
    try:
        list_in(cell)
    except AutopeftError:
        return True
    return False


def _checked(tokens: Sequence[Any]) -> tuple[str, ...]:
    for token in tokens:
        if not isinstance(token, str):
            raise AutopeftError(f"the token {brief(token)} is no text; write it in quotes.")
    return tuple(map(storable, tokens))
