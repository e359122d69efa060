"""Which columns hold the text and which the label: given, or guessed from names and content. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from autopeft.errors import AutopeftError, unknown

_LABELS = ("label", "labels", "class", "category", "intent", "sentiment", "section", "topic", "target", "gold_label", "y")
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
_TEXTS = ("text", "sentence", "headline", "review", "content", "utterance", "tweet", "comment", "title", "body", "document")
_MOST_CLASSES = 0.5
"""A column with more distinct values than this share of its rows is no label."""


@dataclass(frozen=True)
class Columns:
    """What to read and what to predict."""

    text: tuple[str, ...]
    """One column, or two for pairs."""
    label: str


def guess_columns(frame: pd.DataFrame, text: Sequence[str] = (), label: str | None = None) -> Columns:
    """The columns given, or the best guess. Raises AutopeftError for a missing column, or when nothing can be guessed."""
    names = [str(name) for name in frame.columns]
    for given in (*text, *([label] if label is not None else [])):
        if given not in names:
            raise unknown("column", given, names)
    if label in text:
        raise AutopeftError(f"'{label}' cannot be both a text and the label.")
    by_name = {name.lower(): name for name in names}
    if label is None:
        label = next((by_name[name] for name in _LABELS if name in by_name and by_name[name] not in text), None)
        label = label or _label_by_content(frame, [name for name in names if name not in text])
    texts = tuple(text) or _text_by_name({k: n for k, n in by_name.items() if n != label})
    texts = texts or _text_by_content(frame, [name for name in names if name != label])
    return Columns(texts, label)


def _label_by_content(frame: pd.DataFrame, names: Sequence[str]) -> str:
    few = [name for name in names if 2 <= frame[name].astype(str).nunique() <= max(2, _MOST_CLASSES * len(frame))]
    short = [name for name in few if frame[name].astype(str).str.len().mean() < 25]
    if len(short) != 1:
        raise AutopeftError(f"cannot tell which column is the label; give --label, one of {', '.join(names)}.")
    return short[0]


def _text_by_name(by_name: dict[str, str]) -> tuple[str, ...]:
    for first, second in _PAIRS:
        if first in by_name and second in by_name:
            return (by_name[first], by_name[second])
    return next(((by_name[name],) for name in _TEXTS if name in by_name), ())


def _text_by_content(frame: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    strings = [name for name in names if frame[name].map(lambda value: isinstance(value, str)).all()]
    spoken = [name for name in strings if frame[name].str.contains(" ").mean() > 0.5 or len(strings) == 1]
    if len(spoken) != 1:
        raise AutopeftError(f"cannot tell which column is the text; give --text, one or two of {', '.join(names) or 'none'}.")
    return (spoken[0],)
