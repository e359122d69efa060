"""Which columns hold the text and which the label: given, or guessed from names and content. Pure."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief

_LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "intent",
    "sentiment",
    "section",
    "topic",
    "target",
    "gold_label",
    "y",
)
_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
    ("question", "passage"),
    ("query", "document"),
)
_TEXTS = (
    "text",
    "sentence",
    "headline",
    "review",
    "content",
    "utterance",
    "tweet",
    "comment",
    "title",
    "body",
    "document",
)
USUAL_NAMES = frozenset({*_LABELS, *_TEXTS, *(name for pair in _PAIRS for name in pair)})
"""Names that columns have, in small letters."""
_NAMELESS = re.compile(r"|Unnamed: \d+(\.\d+)?(_level_\d+)?|\.\.\.\d+|__index_level_\d+__|_c\d+")
"""What pandas, R and Spark call a column without a name: row numbers, as a rule."""
_MOST_CLASSES = 0.5
"""A column with more distinct values than this share of its rows is no label."""


@dataclass(frozen=True)
class Columns:
    """What to read and what to predict."""

    text: tuple[str, ...]
    """One column, or two for pairs."""
    label: str


def guess_columns(frame: pd.DataFrame, text: Sequence[str] = (), label: str | None = None) -> Columns:
    """The columns given, or the best guess, which is never a column without a name.

    Raises AutopeftError for a column that is missing or cannot serve, or when nothing can be guessed.
    """
    names = [str(name) for name in frame.columns]
    for given in (*text, *([label] if label is not None else [])):
        if given not in names:
            raise unknown("column", given, names)
    if label in text:
        raise AutopeftError(f"'{label}' cannot be both a text and the label.")
    counts = Counter(names)
    single = [name for name in names if counts[name] == 1]
    named = [name for name in single if not _NAMELESS.fullmatch(name)]
    by_name = {name.lower(): name for name in reversed(names)}
    if label is None:
        label = next((by_name[name] for name in _LABELS if name in by_name and by_name[name] not in text), None)
        label = label or _label_by_content(frame, [name for name in named if name not in text])
    texts = tuple(text) or _text_by_name({k: n for k, n in by_name.items() if n != label})
    texts = texts or _text_by_content(frame, [name for name in named if name != label])
    for name in (*texts, label):
        if counts[name] != 1:
            raise AutopeftError(f"there are {counts[name]} columns '{name}'; rename all but one.")
    for name in texts:
        # A headline may be 1984, but not every headline.
        if not any(map(_has_letters, frame[name])):
            raise AutopeftError(f"column '{name}' holds no text, but values such as {brief(frame[name].iloc[0])}.")
    return Columns(texts, label)


def _label_by_content(frame: pd.DataFrame, names: Sequence[str]) -> str:
    few = [name for name in names if 2 <= len(set(_written(frame, name))) <= max(2, _MOST_CLASSES * len(frame))]
    short = [name for name in few if sum(map(len, _written(frame, name))) < 25 * len(frame)]
    if len(short) != 1:
        raise AutopeftError(
            f"cannot tell which column is the label; give --label, one of {', '.join(names) or 'none'}."
        )
    return short[0]


def _text_by_name(by_name: dict[str, str]) -> tuple[str, ...]:
    for first, second in _PAIRS:
        if first in by_name and second in by_name:
            return (by_name[first], by_name[second])
    return next(((by_name[name],) for name in _TEXTS if name in by_name), ())


def _text_by_content(frame: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    worded = [name for name in names if any(map(_has_letters, frame[name]))]
    spoken = [name for name in worded if _is_spoken(frame, name) or len(worded) == 1]
    if len(spoken) != 1:
        raise AutopeftError(
            f"cannot tell which column is the text; give --text, one or two of {', '.join(names) or 'none'}."
        )
    return (spoken[0],)


def _is_spoken(frame: pd.DataFrame, name: str) -> bool:
    return sum(" " in text for text in _written(frame, name)) > 0.5 * len(frame)


def _written(frame: pd.DataFrame, name: str) -> list[str]:
    """The cells as text; lists, which may be nested deeply, as far as they are shown."""
    return [str(value) if pd.api.types.is_scalar(value) else brief(value) for value in frame[name]]


def _has_letters(value: object) -> bool:
    return isinstance(value, str) and any(map(str.isalpha, value))
