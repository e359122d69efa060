"""Reports of a search: one record in, one text out. A format is one file in `format/`; adding one edits no list.

This module imports no format before it is asked for, because some bring large libraries.
"""

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import cast

from autopeft.errors import unknown
from autopeft.reports.interface import Format
from autopeft.reports.sound import sound
from autopeft.trial import SearchRecord


def formats() -> tuple[str, ...]:
    """The names of all formats."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent / "format")])))


def render(record: SearchRecord, format: str) -> str:
    """The report of a search in a format. Raises AutopeftError for a format that does not exist."""
    if format not in formats():
        raise unknown("report format", format, formats())
    return cast(Format, import_module(f"autopeft.reports.format.{format}")).render(sound(record))
