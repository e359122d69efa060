r"""CoNLL files: one token a line, its tag last, a blank line between sentences.

Columns are separated by tabs or by blanks. Left out are `-DOCSTART-` lines, comments (`# id = 1`), a header, and
CoNLL-U's ranges of words (`1-2`). The token stands in the first column, or in the second where the first counts the
words of each sentence. The tag stands in the last one; in CoNLL-U's ten columns it is the fourth, the universal part
of speech. Not read: tags that stand elsewhere (CoNLL-2012), and lines without a tag.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from autopeft.data.files.contents import Request, decoded
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_BREAKS = re.compile(r"\r\n|\r|\n")
_BLANKS = re.compile(r"[ \t]+")
"""Others, such as one that does not break, may stand in a token."""
_TAG = re.compile(r"O|[BIESLUMW]-\S+")
_HEADS = {"tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "ner-tag", "iob", "bio", "iob2"}
_TOKEN_HEADS = {"token", "tokens", "word", "words", "form", "text"}
_COUNTED = re.compile(r"\d+(?:[-.]\d+)?")
_UNIVERSAL = 10
"""Columns of CoNLL-U."""
_DOCUMENT = "-DOCSTART-"
_SEEN = 4000
"""Characters by which a file is known."""
_LINE, _CELL = 200, 64
"""Bytes that they take as Python values, besides their text."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A token."""

    number: int
    cells: tuple[str, ...]
    sentence: int


def read_conll(path: Path, request: Request) -> pd.DataFrame:
    """The columns `tokens` and `tags`, both lists of texts. Raises AutopeftError."""
    return conll_table(path, decoded(path, request.allowance), request)


def is_conll(text: str) -> bool:
    """Whether the first lines are tokens with tags of entities, or words between blanks in more than one sentence.

    Other tags between tabs are like the cells of any table.
    """
    lines = _lines(text[:_SEEN])
    if lines[0].startswith(_DOCUMENT):
        return True
    whole = lines if len(text) <= _SEEN else lines[:-1]
    held = [line for line in whole if line and not line.startswith("#")]
    if held and _is_header(_cells(held[0], "\t" in held[0])):
        del held[0]
    rows = [_cells(line, "\t" in line) for line in held]
    if not rows or len(rows[0]) < 2 or len(set(map(len, rows))) > 1:
        return False
    is_no_table = not any(each in held[0] for each in "\t,;|") and "" in whole[whole.index(held[0]) : -1]
    return is_no_table or all(_TAG.fullmatch(row[-1]) for row in rows)


def conll_table(path: Path, text: str, request: Request) -> pd.DataFrame:
    """The table of a file that holds this text. Raises AutopeftError."""
    lines, cells = (sum(map(text.count, some)) for some in ("\n\r", "\t "))
    request.allowance.take(_LINE * (lines + 1) + _CELL * cells, path)
    held = _without_header(_tokens(path, text), path, request)
    if not held:
        raise AutopeftError(f"'{path}' holds no tokens; a line holds a token and its tag, as in `Paris B-LOC`.")
    word, tag = _columns(held, path, request)
    tokens: list[list[str]] = []
    tags: list[list[str]] = []
    names: dict[str, str] = {}
    sentence = -1
    for line in held:
        if line.sentence != sentence:
            sentence = line.sentence
            tokens.append([])
            tags.append([])
        if not line.cells[word]:
            raise AutopeftError(f"line {line.number} of '{path}' has no token before its tag.")
        tokens[-1].append(line.cells[word])
        tags[-1].append(names.setdefault(line.cells[tag], line.cells[tag]))
    if set(names) == {"_"}:
        raise AutopeftError(
            f"'{path}' holds only '_' for tags; they stand in the last column, or in the fourth of CoNLL-U."
        )
    if len(tokens) == 1 and len(held) > 1:
        request.say(f"'{path.name}' holds no blank lines between sentences; it is a single row")
    return pd.DataFrame({"tokens": pd.Series(tokens, dtype=object), "tags": pd.Series(tags, dtype=object)})


def _lines(text: str) -> list[str]:
    return [line.rstrip(" \t") for line in _BREAKS.split(text)]


def _is_boundary(line: str) -> bool:
    return not line or line.startswith(_DOCUMENT)


def _cells(line: str, by_tabs: bool) -> tuple[str, ...]:
    if by_tabs:
        return tuple(cell.strip(" ") for cell in line.split("\t"))
    return tuple(_BLANKS.split(line.strip(" \t")))


def _tokens(path: Path, text: str) -> list[_Line]:
    """Lines with tokens, each with as many cells. Raises AutopeftError."""
    lines = _lines(text)
    held = [line for line in lines if not _is_boundary(line)]
    # Of nothing but lines that begin with #, those with tags are tokens.
    usual = [line for line in held if not line.startswith("#")] or [
        line for line in held if _TAG.fullmatch(_cells(line, "\t" in line)[-1])
    ]
    by_tabs = bool(usual) and "\t" in usual[0]
    width = len(_cells(usual[0], by_tabs)) if usual else 0
    known = {_cells(line, by_tabs)[-1] for line in usual}
    found: list[_Line] = []
    sentence, inside = 0, False
    for number, line in enumerate(lines, 1):
        if _is_boundary(line):
            sentence, inside = sentence + inside, False
            continue
        cells = _cells(line, by_tabs)
        if line.startswith("#") and not inside and not _is_token(cells, width, known):
            continue
        if len(cells) != width or width < 2:
            raise _ragged(path, number, cells, width, by_tabs)
        found.append(_Line(number, cells, sentence))
        inside = True
    return found


def _is_token(cells: Sequence[str], width: int, known: set[str]) -> bool:
    """Whether a line that begins with # above a sentence is its first token, and no comment."""
    return len(cells) == width > 1 and (cells[-1] in known or bool(_TAG.fullmatch(cells[-1])))


def _ragged(path: Path, number: int, cells: Sequence[str], width: int, by_tabs: bool) -> AutopeftError:
    if len(cells) < 2:
        return AutopeftError(
            f"line {number} of '{path}' holds one column only, {brief(cells[0])}; a line holds a token and its tag, "
            "as in `Paris B-LOC`, and a blank line separates sentences."
        )
    how = "tabs" if by_tabs else "blanks"
    return AutopeftError(
        f"line {number} of '{path}' has {len(cells)} columns between {how}, but the first has {width}."
    )


def _is_header(cells: Sequence[str]) -> bool:
    return cells[-1].casefold() in _HEADS and any(cell.casefold() in _TOKEN_HEADS for cell in cells[:2])


def _without_header(lines: list[_Line], path: Path, request: Request) -> list[_Line]:
    if lines and _is_header(lines[0].cells):
        request.say(f"the first line of '{path.name}' is taken for the names of its columns, not for a token")
        return lines[1:]
    return lines


def _columns(lines: list[_Line], path: Path, request: Request) -> tuple[int, int]:
    """Where token and tag stand. What CoNLL-U holds beside its words is taken out of the lines."""
    width = len(lines[0].cells)
    if width < 3 or not all(_COUNTED.fullmatch(line.cells[0]) for line in lines):
        return 0, width - 1
    words = [line for line in lines if line.cells[0].isdigit()]
    begins = [line for at, line in enumerate(words) if at == 0 or line.sentence != words[at - 1].sentence]
    if not all(line.cells[0] in ("0", "1") for line in begins):
        return 0, width - 1
    if width != _UNIVERSAL:
        return 1, width - 1
    lines[:] = words
    request.say(f"tags of '{path.name}' are the universal parts of speech, the fourth column of CoNLL-U")
    return 1, 3
