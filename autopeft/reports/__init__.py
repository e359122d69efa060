"""Reports of a search: one record in, one text out. A format is one file in `format/`; adding one edits no list.

This module imports no format before it is asked for, because some bring large libraries.
"""

from importlib import import_module
from pathlib import Path
from typing import cast

from autopeft.errors import AutopeftError, unknown
from autopeft.files import found_in
from autopeft.reports.interface import Format
from autopeft.reports.sound import sound
from autopeft.trial import SearchRecord

DEFAULT = "terminal"
_TEXTS = ("", "txt", "log", "md")


def formats() -> tuple[str, ...]:
    """The names of all formats."""
    return found_in(Path(__file__).parent / "format")


def format_of(file: Path | None) -> str:
    """The format that the name of a file to write ends in, such as `html`; the one for a terminal where it ends in
    nothing, or as texts do. Raises AutopeftError for another ending.
    """
    ending = file.suffix[1:].lower() if file else ""
    if ending not in (*_TEXTS, *formats()):
        raise AutopeftError(
            f"a report is written as {', '.join(name for name in formats() if name != DEFAULT)} or txt, not as "
            f"'{ending}'; say which by --format where a file is to end in something else."
        )
    return DEFAULT if ending in _TEXTS else ending


def require_format(name: str) -> None:
    """Raises AutopeftError for a format that does not exist."""
    if name not in formats():
        raise unknown("report format", name, formats())


def render(record: SearchRecord, format: str) -> str:
    """The report of a search in a format. Raises AutopeftError for a format that does not exist."""
    require_format(format)
    return cast(Format, import_module(f"autopeft.reports.format.{format}")).render(sound(record))
