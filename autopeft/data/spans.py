"""Texts with marked spans become words with tags.

Words are cut by one rule, which a text to predict follows too: letters, digits and underscores in a row are a word,
with the marks on them (accents, vowel signs, joiners); every other visible character stands alone, and so does every
letter of scripts that put no blanks between words (Chinese, Japanese, Thai, Lao, Burmese, Khmer). A span that begins or
ends inside a word takes the whole word, because a word has one tag, and nobody knows the spans of a text to predict.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from autopeft.data.cells import list_in
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_STARTS = ("start", "start_offset")
_ENDS = ("end", "end_offset")
_LABELS = ("label", "entity_group", "entity", "type", "tag", "labels")
"""Where a span says what it is: ours and Prodigy's, the pipelines' of transformers and AutoGluon's, Label Studio's."""
_ALONE = (
    "\u0e00-\u0e4e\u0e80-\u0ecf\u1000-\u109f\u1780-\u17df"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_JOINERS = "\u200c\u200d\u00ad"


@dataclass(frozen=True, order=True)
class Span:
    """A marked stretch of a text."""

    start: int
    """Its first character."""
    end: int
    """The character after its last one."""
    label: str
    marked: str | None = field(default=None, compare=False)
    """What stands there, where the data tells."""


@dataclass(frozen=True)
class Tagged:
    """A text in words."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    """In IOB2, one for each token."""
    offsets: tuple[tuple[int, int], ...]
    """(start, end) of each token in the text."""
    widened: int = 0
    """Spans that begin or end inside a word, and were given the whole of it."""
    lost: int = 0
    """Spans all of whose words belong to an earlier one already."""


def spans_in(cell: object) -> list[Span]:
    """The spans of a cell: {start, end, label} or [start, end, label] each, in a list. Raises AutopeftError."""
    return list(dict.fromkeys(_span(item) for item in list_in(cell)))


def words(text: str) -> list[tuple[int, int]]:
    """(start, end) of each word."""
    return [found.span() for found in _rule().finditer(text)]


def tagged(text: str, spans: Sequence[Span]) -> Tagged:
    """The words of a text and their tags. Raises AutopeftError for spans that overlap, lie outside, or hold nothing."""
    ordered = sorted(_placed(text, span) for span in spans)
    for one, other in pairwise(ordered):
        if other.start < one.end:
            raise AutopeftError(f"{_shown(one)} and {_shown(other)} overlap; a word has one tag: keep one of them.")
    offsets = words(text)
    tags = ["O"] * len(offsets)
    at = widened = lost = 0
    for span in ordered:
        while at < len(offsets) and offsets[at][1] <= span.start:
            at += 1
        first = at
        while at < len(offsets) and offsets[at][0] < span.end:
            tags[at] = f"{'B' if at == first else 'I'}-{span.label}"
            at += 1
        lost += first == at
        begin = offsets[first][0] if first < at else span.start
        widened += first < at and (begin < span.start or offsets[at - 1][1] > span.end)
    tokens = tuple(text[start:end] for start, end in offsets)
    return Tagged(tokens, tuple(tags), tuple(offsets), widened, lost)


def _span(item: Any) -> Span:
    start: Any
    end: Any
    if isinstance(item, Mapping):
        inner = item.get("value")  # Label Studio's own export
        held = inner if isinstance(inner, Mapping) and "start" in inner else item
        start, end, label = (
            next((held[name] for name in names if held.get(name) is not None), None)
            for names in (_STARTS, _ENDS, _LABELS)
        )
    else:
        parts = list_in(item) if not isinstance(item, str) else []
        start, end, label = parts if len(parts) == 3 else (None, None, None)
    name = _only(label)
    if not _is_offset(start) or not _is_offset(end) or name is None:
        raise AutopeftError(
            f'{brief(item)} is no span; one is written as {{"start": 0, "end": 5, "label": "PER"}} or [0, 5, "PER"].'
        )
    marked = held.get("text") if isinstance(item, Mapping) else None
    return Span(int(start), int(end), name, marked if isinstance(marked, str) else None)


def _is_offset(value: Any) -> bool:
    """Whether it is a whole number; tables with missing values hold them as fractions."""
    if isinstance(value, float):
        return value.is_integer()
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _only(label: Any) -> str | None:
    """The name of a span's type, which Label Studio writes as a list of one."""
    if isinstance(label, list | tuple | np.ndarray):
        if len(label) > 1:
            raise AutopeftError(f"a span has {len(label)} types, {brief(label)}; a word has one tag: keep one of them.")
        label = label[0] if len(label) else None
    if isinstance(label, str):
        return label.strip() or None
    return str(int(label)) if _is_offset(label) else None


def _placed(text: str, span: Span) -> Span:
    """The span where it lies in Python's characters: browsers, and so Label Studio, count an emoji as two."""
    if span.marked is not None and not _is_same(text[max(span.start, 0) : max(span.end, 0)], span.marked):
        units = text.encode("utf-16-le", "surrogatepass")
        start, end = (len(units[: 2 * max(at, 0)].decode("utf-16-le", "ignore")) for at in (span.start, span.end))
        if not _is_same(text[start:end], span.marked):
            raise AutopeftError(
                f"{_shown(span)} is said to mark {brief(span.marked)}, but there stands "
                f"{brief(text[max(span.start, 0) : max(span.end, 0)])}."
            )
        span = replace(span, start=start, end=end)
    if span.start < 0 or span.end > len(text):
        raise AutopeftError(f"{_shown(span)} lies outside of its text, which has {len(text):,} characters.")
    if span.start >= span.end:
        raise AutopeftError(f"{_shown(span)} is empty: its end is the character after its last one.")
    if _rule().search(text, span.start, span.end) is None:
        raise AutopeftError(f"{_shown(span)} holds no word, but {brief(text[span.start : span.end])}.")
    return span


def _is_same(one: str, other: str) -> bool:
    """Apart from blanks, and from line breaks as Label Studio writes them."""
    return "".join(one.split()) == "".join(other.replace("\\n", " ").split())


def _shown(span: Span) -> str:
    return f"the span {brief(span.start)}-{brief(span.end)} {brief(span.label)}"


@cache
def _rule() -> re.Pattern[str]:
    """What a word is. Python's own `\\w` leaves out the marks of Indic and other scripts."""
    every = [chr(code) for code in range(0x110000)]
    marks = "".join(each for each in every if unicodedata.category(each)[0] == "M") + _JOINERS
    hidden = "".join(
        re.escape(each) for each in every if unicodedata.category(each) in ("Cc", "Cf", "Cs") and each not in _JOINERS
    )
    letter = rf"(?![{_ALONE}])\w"
    return re.compile(rf"{letter}(?:{letter}|[{marks}])*|[^\s{hidden}{_JOINERS}][{marks}]*")
