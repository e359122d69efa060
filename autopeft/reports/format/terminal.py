"""The front as a table in a terminal, with what is worth knowing around it; plain text anywhere else."""

import shutil
import sys
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autopeft.confirmed import Confirmed
from autopeft.reports import confirmations, prompting, written
from autopeft.reports.apart import apart
from autopeft.reports.costs import TOOK, seconds_with
from autopeft.reports.findings import (
    Findings,
    baseline_rows,
    correction,
    emptiness,
    failure_lines,
    find,
    knee_line,
    notes,
    plan_lines,
    tally,
)
from autopeft.reports.harmless import harmless
from autopeft.reports.wording import describe_fully
from autopeft.trial import SearchRecord, Trial

PLAIN_WIDTH = 120
NARROW = 70
"""Below this width the values in the table are folded, because they would push each other out."""


def render(record: SearchRecord) -> str:
    """The report for where standard output goes: coloured and as wide as a terminal, else plain."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return text(record, shutil.get_terminal_size().columns if terminal else PLAIN_WIDTH, terminal)


def text(record: SearchRecord, width: int, coloured: bool) -> str:
    """The report in a given width."""
    record = harmless(record)
    found = find(record)
    file = StringIO()
    console = Console(
        file=file,
        width=max(width, 1),
        force_terminal=coloured,
        force_jupyter=False,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    if answered := prompting.answer(record, found):
        console.print(Text(answered, style="bold"))
    console.print(Text(f"Search {record.name}", style="bold"))
    said = dict(plan_lines(record))
    for line in (
        *record.facts.get("data", ()),
        f"backbone: {record.facts.get('backbone', said['model'])}",
        f"budget: {said['budget']}",
    ):
        console.print(Text(str(line)))
    console.print()
    if found.front:
        console.print(_table(record, found, width))
        if marked := knee_line(found):
            console.print(Text(marked))
            console.print()
        if found.beats_nothing:
            console.print(Text(found.beats_nothing, style="bold"))
            console.print()
        if found.confirmed is not None:
            console.print(_confirmed(found.confirmed, record, width))
        if said_again := confirmations.lines(record, found):
            for line in said_again:
                console.print(Text(line))
            console.print()
        console.print(Text("Settings of the front", style="bold"))
        for trial in found.front:
            console.print(_numbered(trial, describe_fully(trial.candidate, record.of_task)))
        for each in written.texts(found):
            console.print()
            console.print(_texts(each))
    else:
        console.print(Text(emptiness(record, found), style="bold"))
        for name, baseline in baseline_rows(record.baselines, record.metric):
            console.print(Text(f"{prompting.labelled(name, baseline)} {found.score(baseline)}"))
    console.print()
    console.print(Text(tally(record, found)))
    for line in failure_lines(found):
        console.print(Text(line, style="red"))
    if corrected := correction(record):
        console.print(Text(corrected))
    for line in (*filter(None, [written.losses(record, found)]), *notes(found)):
        console.print(Text(line, style="dim"))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _table(record: SearchRecord, found: Findings, width: int) -> Table:
    title = f"Front over {', '.join(each.heading for each in record.objectives)}"
    table = _empty(title, (*found.short_headings, TOOK), width)
    named = apart(found.front)
    for trial in found.front:
        is_knee = found.knee is not None and trial.number == found.knee.number
        cells = [
            f"{trial.number}{' *' if is_knee else '  '}",
            named[trial.number],
            *found.cells(trial),
            seconds_with(trial),
        ]
        table.add_row(*(Text(cell) for cell in cells), style="bold" if is_knee else None)
    if record.baselines:
        table.add_section()
    for name, baseline in baseline_rows(record.baselines, record.metric):
        table.add_row("", prompting.labelled(name, baseline), *found.cells_of_baseline(baseline), "", style="dim")
    return table


def _texts(of: written.Texts) -> Table:
    table = Table(title=of.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("asked", "expected", "written"):
        table.add_column(name, overflow="fold", ratio=1)
    for row in of.rows:
        table.add_row(*(Text(row[name]) for name in ("prompt", "answer", "generated")))
    return table


def _confirmed(sure: Confirmed, record: SearchRecord, width: int) -> Table:
    table = _empty(confirmations.title(sure), confirmations.headings(sure), width)
    rows = confirmations.rows(sure, record.metric)
    named = apart(trial for trial, _ in rows)
    for trial, cells in rows:
        table.add_row(*(Text(cell) for cell in (f"{trial.number}  ", named[trial.number], *cells)))
    return table


def _empty(title: str, columns: tuple[str, ...], width: int) -> Table:
    """A table of trials without rows."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("method", overflow="fold", min_width=12)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=width >= NARROW, overflow="fold")
    return table


def _numbered(trial: Trial, line: str) -> Table:
    """A line that, when it is wrapped, keeps clear of its trial's number."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", no_wrap=True, min_width=3)
    grid.add_column(overflow="fold")
    grid.add_row(str(trial.number), Text(line))
    return grid
