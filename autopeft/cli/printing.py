"""What is printed, safe for any terminal whoever wrote it."""

from collections.abc import Sequence

import click

from autopeft.foreign import printable
from autopeft.storage.urls import without_passwords

_PIPED_WIDTH = 160


def say(text: str = "", err: bool = False) -> None:
    """Prints text that may be others': what a terminal would obey is shown escaped, and URLs have no passwords."""
    click.echo(harmless(text), err=err)


def harmless(text: str) -> str:
    """The text as it may be shown in any terminal."""
    return printable(without_passwords(text))


def table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number < len(headings) - 1, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell, keep="")) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    with console.capture() as captured:
        console.print(table)
    click.echo(captured.get().rstrip("\n"))
