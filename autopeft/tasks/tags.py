"""Entities that the tags of words mark, by seqeval's definition in its lenient mode: no row of tags is wrong.

Read are IOB2, IOB1, IOBES (BIOES), and what is the same by other letters: BILOU, BMES, BMEWO. An entity goes on as
long as its type stays the same and no tag begins or ends one; so `I-PER` after `O` begins an entity, as in IOB1. Tags
without such a letter name a type alone: one entity for each run of words that have it. (seqeval would take their first
character for the letter.)
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

OUTSIDE = "O"
_LETTERS = "BIESLUMW"
_MARKED = re.compile(rf"([{_LETTERS}])(?:-(.*))?", re.DOTALL)
_SAME = {"L": "E", "U": "S", "W": "S", "M": "I"}
"""Last, unit, whole word, middle."""
_NAMELESS = "_"
"""The type of an entity that is marked by a letter alone, as seqeval calls it."""


@dataclass(frozen=True)
class Entity:
    """A stretch of words that has a type."""

    type: str
    first: int
    """Its first word."""
    last: int
    """Its last word, which belongs to it."""
    start: int
    """Its first character in the text."""
    end: int
    """The character after its last one."""


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first word, last word) of each entity, in their order."""
    found: list[tuple[str, int, int]] = []
    first, mark, kind = 0, OUTSIDE, ""
    for at, tag in enumerate((*tags, OUTSIDE)):
        before, previous = mark, kind
        mark, kind = _parts(tag)
        outside = mark == OUTSIDE
        continues = not outside and mark not in "BS" and kind == previous and before in "BI"
        if before != OUTSIDE and not continues:
            found.append((previous, first, at - 1))
        if not outside and not continues:
            first = at
    return found


def located(tags: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[Entity]:
    """The entities of words that lie at these characters (start, end) of a text."""
    return [Entity(kind, first, last, offsets[first][0], offsets[last][1]) for kind, first, last in entities(tags)]


def mark_entities(names: Collection[str]) -> bool:
    """Whether tags of these names mark entities; otherwise each word has a class of its own, as parts of speech are.

    One among them begins with a letter and a hyphen, as B-PER does, and so do all others, but for O.
    """
    inside = [name for name in names if name != OUTSIDE]
    return bool(inside) and all((found := _MARKED.fullmatch(name)) and found[2] for name in inside)


def have_entities(names: Collection[str]) -> bool:
    """Whether words of these tags are parts of entities, marked as such or told from those outside."""
    return OUTSIDE in names or mark_entities(names)


def scheme(rows: Sequence[Sequence[str]]) -> str:
    """How the tags of these rows mark what they mark, for people."""
    names = {tag for row in rows for tag in row}
    if not have_entities(names):
        if all(map(str.isdecimal, names)):
            return "numbers without names: a class for each word, judged by the share of right ones"
        return "a class for each word, judged by the share of right ones"
    letters = {tag.partition("-")[0] for tag in names - {OUTSIDE}}
    if not letters <= {*_LETTERS}:
        return "types of entities; words in a row that have the same are one entity"
    if letters - {*"BI"}:
        return "IOBES, or the same in other letters"
    begun = [(row[first], row[first - 1] if first else OUTSIDE) for row in rows for _, first, _ in entities(row)]
    inside = sum(tag[0] == "I" for tag, _ in begun)
    if not inside:
        return "IOB2"
    if all(tag[0] == "I" or tag[1:] == before[1:] for tag, before in begun):
        return "IOB1"
    return f"IOB2, but {inside:,} of {len(begun):,} entities begin with I"


def _parts(tag: str) -> tuple[str, str]:
    """The letter, one of B, I, E, S and O, and the type."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = _MARKED.fullmatch(tag)
    if found is None:
        return "I", tag
    return _SAME.get(found[1], found[1]), found[2] or _NAMELESS
