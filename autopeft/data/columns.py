"""Which columns serve which roles of a task: given, or guessed from names and content. Pure."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from autopeft.data.cells import holds_list
from autopeft.data.images import are_images
from autopeft.data.numbers import number_in
from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief

TEXT, CATEGORY, CATEGORIES, NUMBER, WORDS, IMAGE, MESSAGES = KINDS = (
    "text",
    "category",
    "categories",
    "number",
    "words",
    "image",
    "messages",
)
"""What columns hold: texts, one class, several classes, a number, a list of words, a picture, a conversation."""
LABELS = (
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
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
    ("question", "passage"),
    ("query", "document"),
)
TEXTS = (
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
NUMBERS = ("label", "score", "similarity_score", "similarity", "rating", "stars", "target", "labels", "y")
LABEL_SETS = ("labels", "label", "tags", "categories", "genres", "topics", "emotions", "classes")
TOKENS = ("tokens", "words")
TAGS = ("tags", "ner_tags", "pos_tags", "chunk_tags", "labels")
SPANS = ("spans", "entities", "entity_annotations", "label")
IMAGES = ("image", "img", "picture", "file_name", "path")
"""What columns are usually called, in small letters, the most usual first."""
_ALL = (LABELS, TEXTS, NUMBERS, LABEL_SETS, TOKENS, TAGS, SPANS, IMAGES, *PAIRS)
USUAL_NAMES = frozenset(name for names in _ALL for name in names)
_NAMELESS = re.compile(r"|Unnamed: \d+(\.\d+)?(_level_\d+)?|\.\.\.\d+|__index_level_\d+__|_c\d+")
"""What pandas, R and Spark call a column without a name: row numbers, as a rule."""
_MOST_CLASSES = 0.5
"""A column with more distinct values than this share of its rows is no class."""

Columns = Mapping[str, tuple[str, ...]]
"""Role -> the columns that serve it."""


@dataclass(frozen=True)
class Role:
    """A column that a task needs."""

    kind: str
    """One of `KINDS`."""
    names: tuple[str, ...]
    """What such columns are usually called, in small letters; the first that is there counts."""
    pairs: tuple[tuple[str, str], ...] = ()
    """The same of two columns that belong together; they come first."""
    most: int = 1
    """How many columns may serve it."""

    @property
    def usual(self) -> tuple[str, ...]:
        """Usual names, pairs among them as `one + other`."""
        return (*self.names[:2], *(f"{one} + {other}" for one, other in self.pairs), *self.names[2:])


Roles = Mapping[str, Role]
"""What is to be learned comes first."""


def guess_columns(frame: pd.DataFrame, roles: Roles, given: Columns) -> Columns:
    """The columns given, or the best guess for each role, which is never a column without a name.

    Raises AutopeftError for a column that is missing or cannot serve, or when nothing can be guessed.
    """
    names = [str(name) for name in frame.columns]
    counts = Counter(names)
    _require_possible(given, roles, names)
    named = [name for name in names if counts[name] == 1 and not _NAMELESS.fullmatch(name)]
    by_name = {name.lower(): name for name in reversed(names)}
    found = dict(given)
    for name, role in roles.items():
        if name not in found:
            taken = {column for columns in found.values() for column in columns}
            usual = _by_name(role, {key: column for key, column in by_name.items() if column not in taken})
            found[name] = usual or _by_content(frame, name, role, [each for each in named if each not in taken])
    for name, columns in found.items():
        for column in columns:
            if counts[column] != 1:
                raise AutopeftError(f"there are {counts[column]} columns '{column}'; rename all but one.")
            # A headline may be 1984, but not every headline.
            if roles[name].kind == TEXT and not any(map(_has_letters, frame[column])):
                value = brief(frame[column].iloc[0])
                raise AutopeftError(f"column '{column}' holds no text, but values such as {value}.")
    return {name: found[name] for name in roles}


def _require_possible(given: Columns, roles: Roles, names: Sequence[str]) -> None:
    served: dict[str, str] = {}
    for name, columns in sorted(given.items(), key=lambda each: [*roles, each[0]].index(each[0]), reverse=True):
        if name not in roles:
            raise unknown("role", name, roles)
        if not 0 < len(columns) <= roles[name].most:
            raise AutopeftError(f"at most {roles[name].most} columns can be the {name}, not {len(columns)}.")
        what = f"{'a' if roles[name].kind == TEXT else 'the'} {name}"
        for column in columns:
            if column not in names:
                raise unknown("column", column, names)
            if column in served:
                raise AutopeftError(f"'{column}' cannot be both {served[column]} and {what}.")
            served[column] = what


def _by_name(role: Role, by_name: Mapping[str, str]) -> tuple[str, ...]:
    for first, second in role.pairs:
        if first in by_name and second in by_name:
            return (by_name[first], by_name[second])
    return next(((by_name[name],) for name in role.names if name in by_name), ())


def _by_content(frame: pd.DataFrame, name: str, role: Role, names: Sequence[str]) -> tuple[str, ...]:
    able = _CONTENT[role.kind](frame, names) if role.kind in _CONTENT else []
    if len(able) != 1:
        option = f"--{name}" if name in ("text", "label") else f"--columns {name}=NAME"
        many = "one or two of" if role.most == 2 else "one of"
        raise AutopeftError(
            f"cannot tell which column is the {name}; give {option}, {many} {', '.join(names) or 'none'}."
        )
    return (able[0],)


def _classes(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    few = [name for name in names if 2 <= len(set(_written(frame, name))) <= max(2, _MOST_CLASSES * len(frame))]
    return [name for name in few if sum(map(len, _written(frame, name))) < 25 * len(frame)]


def _texts(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    worded = [name for name in names if any(map(_has_letters, frame[name]))]
    return [name for name in worded if _is_spoken(frame, name) or len(worded) == 1]


def _numbers(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Those with a fraction, where there are some: whole numbers may number the rows."""
    found = {name: [number_in(value) for value in frame[name]] for name in names}
    whole = {name: [each for each in some if each is not None] for name, some in found.items() if None not in some}
    return [name for name, some in whole.items() if any(each % 1 for each in some)] or [*whole]


def _lists(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if all(map(holds_list, frame[name]))]


def _images(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if are_images(frame[name])]


_CONTENT = {TEXT: _texts, CATEGORY: _classes, CATEGORIES: _lists, NUMBER: _numbers, IMAGE: _images}


def _is_spoken(frame: pd.DataFrame, name: str) -> bool:
    return sum(" " in text for text in _written(frame, name)) > 0.5 * len(frame)


def _written(frame: pd.DataFrame, name: str) -> list[str]:
    """The cells as text; lists, which may be nested deeply, as far as they are shown."""
    return [str(value) if pd.api.types.is_scalar(value) else brief(value) for value in frame[name]]


def _has_letters(value: object) -> bool:
    return isinstance(value, str) and any(map(str.isalpha, value))
