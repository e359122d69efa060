r"""Tables of separated values, as spreadsheets, pandas, R and databases write them.

Separated by commas, semicolons, tabs or pipes, in quotes that are doubled or escaped, with blanks before the quotes,
with Excel's line `sep=;`, with row names, with `\N` for what is missing. Never read: a table of which a row has too
many or too few cells; a table without a header, whose first row would be lost.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from autopeft.data.columns import USUAL_NAMES
from autopeft.data.files.contents import Request, decoded, kind_of
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_SEPARATORS = ",;\t|"
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
"""Lines as CSV knows them; Python's own would also end at characters that stand in texts."""
_SEPARATOR_LINE = re.compile(r'\s*"?sep=([^\w\r\n"])"?[,;\t ]*(?:\r\n|\r|\n)', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_DRAWN = re.compile(r"[ \t|+:=-]*---[ \t|+:=-]*[\r\n]*")
_FIRST = 10
"""Lines among which a header is looked for."""
_NEEDS_QUOTES = re.compile(r'"(?=.*([,;]|""))(?:[^"]|"")+"', re.DOTALL)
"""What no program would write without quotes; people put them around other texts too."""
_LONG = 60
"""Characters; names of columns are shorter."""


@dataclass(frozen=True)
class _Dialect:
    """One way to read."""

    separator: str
    quoting: Any = csv.QUOTE_MINIMAL
    blanks: bool = False
    """Whether blanks after a separator are not part of the next cell."""
    escaped: bool = False
    r"""Whether a quote in a text is written as `\"`."""


def read_separated(path: Path, request: Request) -> pd.DataFrame:
    """A table of texts, where an empty one may be a missing one. Raises AutopeftError."""
    return separated_table(path, decoded(path, request.allowance), request)


def separated_table(path: Path, text: str, request: Request) -> pd.DataFrame:
    """The table of a file that holds this text. Raises AutopeftError."""
    rows = _rows(path, text, request)
    header, held = [name.strip() for name in rows[0]], rows[1:]
    whole = [row for row in held if [cell.strip() for cell in row] != header]
    if again := len(held) - len(whole):
        request.say(f"rows of '{path.name}' that repeat its header, left out: {again:,}")
    _require_header(path, header, whole, request)
    return pd.DataFrame(whole, columns=header, dtype=object)


def _rows(path: Path, text: str, request: Request) -> list[list[str]]:
    """The header and all rows, as the first dialect reads them by which they are a table."""
    named = _SEPARATOR_LINE.match(text)
    start = named.end() if named else 0
    _require_separated(path, text)
    if above := _above_header(text, start):
        start, count = above
        request.say(f"lines above the header of '{path.name}', left out: {count:,}")
    first = next((line for line in _lines(text, start) if line.strip()), "")
    separators = [named[1]] if named else _separators(first, kind_of(path))
    request.allowance.take(8 * text.count(separators[0]), path)
    refusal, with_quotes = None, None
    for dialect in (each for separator in separators for each in _dialects(text, separator, first)):
        try:
            rows = _read(path, text, start, dialect)
        except AutopeftError as error:
            refusal = refusal or error
            continue
        if not _keeps_quotes(text, rows, dialect):
            return rows
        with_quotes = with_quotes or rows
    if with_quotes:
        return with_quotes
    raise refusal or AutopeftError(f"'{path}' is empty.")


def _require_separated(path: Path, text: str) -> None:
    """Raises AutopeftError for other forms of tables, which would be read as nonsense."""
    if text.startswith("__label__"):
        raise AutopeftError(f"'{path}' is in the form of fastText; write it as CSV with a header such as label,text.")
    first = list(islice(_lines(text, 0), 3))
    # Without a frame and in quotes such a line may be a part of a text.
    framed = first and ("|" in first[0] or _DRAWN.fullmatch(first[0])) and not any('"' in line for line in first)
    if framed and any(map(_DRAWN.fullmatch, first)):
        raise AutopeftError(f"'{path}' is a table drawn with lines, for people to read; export it as CSV.")


def _above_header(text: str, start: int) -> tuple[int, int] | None:
    """Where the header starts below titles and comments, and after how many lines: it is known by two usual names."""
    for number, line in enumerate(islice(_LINES.finditer(text, start), _FIRST)):
        cells = [cell.strip(' "\r\n').casefold() for cell in re.split(r"[,;\t|]", line[0])]
        usual = sum(cell in USUAL_NAMES for cell in cells)
        if usual >= 2 and number:
            return line.start(), number
        if usual:
            return None
    return None


def _separators(first: str, kind: str) -> list[str]:
    """Those that the first line holds outside of quotes: a tab, which texts do not hold, then the most frequent."""
    bare = _QUOTED.sub("", first)
    order = "\t,;|" if kind == ".tsv" else _SEPARATORS
    found = sorted((each for each in order if each in bare), key=lambda each: (each != "\t", -bare.count(each)))
    if not found and re.fullmatch(r'"[^"]*"(?: "[^"]*")+\s*', first):
        return [" "]
    return found or [order[0]]


def _dialects(text: str, separator: str, first: str) -> Iterator[_Dialect]:
    """Without quotes around the header, quotes in a tab-separated file are part of its texts."""
    usual = _Dialect(separator)
    if separator == "\t" and not first.lstrip().startswith('"'):
        yield replace(usual, quoting=csv.QUOTE_NONE)
    yield usual
    if f'{separator} "' in text:
        yield replace(usual, blanks=True)
    if '\\"' in text:
        yield replace(usual, escaped=True)


def _read(path: Path, text: str, start: int, dialect: _Dialect) -> list[list[str]]:
    r"""All rows, the header first, those without any text left out; as many cells in each; none for `\N`."""
    lines = _lines(text, start)
    if dialect.escaped:
        lines = (re.sub(r'(?<!\\)\\"', '""', line) for line in lines)
    reader = csv.reader(
        lines,
        delimiter=dialect.separator,
        quoting=dialect.quoting,
        skipinitialspace=dialect.blanks,
        strict=True,
    )
    skipped = len(_LINES.findall(text, 0, start))
    may_be_missing = "\\N" in text
    rows: list[list[str]] = []
    first = 0
    usual_limit = csv.field_size_limit(len(text) + 1)
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if may_be_missing:
                row = ["" if cell == "\\N" else cell for cell in row]
            if len(rows) == 1:
                first = skipped + reader.line_num
            elif rows and len(row) != len(rows[1]):
                at, other = (skipped + reader.line_num, row) if len(rows[0]) == len(rows[1]) else (first, rows[1])
                raise _ragged(path, at, other, rows[0], dialect)
            rows.append(row)
    except csv.Error as error:
        raise AutopeftError(
            f"line {skipped + reader.line_num} of '{path}' is no valid CSV: {error}; "
            "a text that holds a quote must be in quotes, and the quote in it doubled."
        ) from error
    finally:
        csv.field_size_limit(usual_limit)
    if not rows:
        raise AutopeftError(f"'{path}' is empty.")
    header = _widened(rows[0], rows[1:])
    if len(rows) > 1 and len(header) != len(rows[1]):
        raise _ragged(path, first, rows[1], header, dialect)
    return [header, *rows[1:]]


def _widened(header: list[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The header of rows that have one cell more: one that is always empty, or R's numbers of rows."""
    if rows and len(rows[0]) == len(header) + 1:
        if all(not row[-1].strip() for row in rows):
            return [*header, ""]
        if all(row[0].strip().isdigit() for row in rows):
            return ["", *header]
    return header


def _ragged(path: Path, line: int, row: Sequence[str], header: Sequence[str], dialect: _Dialect) -> AutopeftError:
    return AutopeftError(
        f"line {line} of '{path}' has {len(row)} cells, but the header has {len(header)}; "
        f"a text that holds {dialect.separator!r} or a line break must be in quotes."
    )


def _lines(text: str, start: int) -> Iterator[str]:
    return (match[0] for match in _LINES.finditer(text, start))


def _keeps_quotes(text: str, rows: Sequence[Sequence[str]], dialect: _Dialect) -> bool:
    """Whether quotes were taken for a part of cells, which a program had put around them."""
    cells = (cell for row in rows for cell in row)
    if dialect.quoting == csv.QUOTE_NONE:
        quoted = [cell for cell in cells if cell[:1] == '"']
        return bool(quoted) and all(map(_NEEDS_QUOTES.fullmatch, quoted))
    if dialect.blanks or f'{dialect.separator} "' not in text:
        return False
    # After a blank, such a cell would stand in quotes itself, and its quotes doubled.
    cell = next((cell for cell in cells if cell[:1] == " " and _QUOTED.fullmatch(cell.strip())), None)
    return cell is not None and '"{}"'.format(cell.replace('"', '""')) not in text


def _require_header(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], request: Request) -> None:
    """Raises AutopeftError when the first row is one of data for sure, and tells when it may be one.

    It is where a class stands in it: a name of a column is no value of it. A usual name, and one that the user named,
    is a header's; numbers in order are what pandas writes for columns without names.
    """
    filled = [name for name in header if name]
    numbered = filled == [str(number) for number in range(len(filled))]
    if numbered or request.named & set(header):
        return
    again = {name: count for at, name in enumerate(header) if (count := _recurs(name, [row[at] for row in rows]))}
    if any(name.casefold() in USUAL_NAMES for name in filled if name not in again):
        return
    for name, count in again.items():
        raise AutopeftError(
            f"'{path}' has no header: {brief(name)} of its first line stands in {count:,} further rows. Put a line of "
            "names such as text,label above it; if the first line is the header, give --text and --label."
        )
    if any(len(name) > _LONG for name in header):
        shown = brief(next(name for name in header if len(name) > _LONG))
        request.say(f"the first line of '{path.name}' is taken for the names of its columns, not for a row: {shown}")


def _recurs(name: str, values: Sequence[str]) -> int:
    """How often the name of a column stands in it, if it holds few different values as classes are."""
    count = sum(value.strip() == name for value in values) if name else 0
    return count if count and len(set(values)) <= max(2, len(values) / 2) else 0
