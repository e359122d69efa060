"""A record whose every text is hostile is harmless in every format and in every view of a terminal."""

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from markupsafe import Markup
from rich.console import Console

from autopeft.cli import main
from autopeft.events import (
    BaselinesKnown,
    Begun,
    Confirming,
    Doing,
    Ended,
    TrialBegan,
    TrialConfirmed,
    TrialEnded,
    TrialReported,
    TurnedAway,
)
from autopeft.reports import formats, render
from autopeft.reports.format.html import _with_code
from autopeft.reports.format.terminal import text
from autopeft.reports.progress import Progress
from autopeft.reports.screen import Screen
from autopeft.reports.standing import Standing
from autopeft.storage.repository import Repository
from autopeft.trial import SearchRecord, Status
from tests.reports.records import confirmation, record

EVIL = "=cmd|'/C calc'!A0\x1b]52;c;aGk=\x07\x9b2J\u202e\x7f\r\t</script><img src=x onerror=alert(1)>{{7*7}}[bold]"
KEPT = {"objectives", "loss_on", "sampler", "keep", "dtype", "schedule", "task", "seed", "status"}
"""Fields whose values are checked when a record is made."""


def hostile(value: Any, name: str = "") -> Any:
    """The same value with every text made evil, each in its own way."""
    if type(value) is str:
        return f"{EVIL} {value}"
    if isinstance(value, Mapping):
        known = {"data", "labels", "backbone", "versions", "refused", "device", "workers", "warm_start"}
        return {key if key in known else f"{key}": hostile(item) for key, item in value.items()} | (
            {f"{EVIL} {key}": hostile(item) for key, item in value.items() if name in ("settings", "turned_away")}
        )
    if isinstance(value, list | tuple):
        return type(value)(hostile(item) for item in value)
    if is_dataclass(value):
        parts = {each.name: getattr(value, each.name) for each in fields(value)}
        return replace(value, **{key: hostile(part, key) for key, part in parts.items() if key not in KEPT})
    return value


def evil() -> SearchRecord:
    known = record()
    facts = {**known.facts, "refused": {EVIL: EVIL}, "device": "cpu", "workers": "2"}
    failed = replace(confirmation(1, 4), status=Status.FAILED, reason="why", validation=None, test=None)
    return hostile(replace(known, facts=facts, confirmations=(*known.confirmations, failed)))  # type: ignore[no-any-return]


def obeyed(said: str) -> list[str]:
    """What of a text a terminal would obey, ends of lines excepted."""
    return re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", said)


def test_the_test_sees_what_a_terminal_would_obey() -> None:
    assert len(obeyed(EVIL)) == 7


@pytest.mark.parametrize("format", formats())
def test_no_format_holds_what_a_terminal_would_obey(format: str) -> None:
    said = render(evil(), format)
    assert "calc" in said
    if format == "html":
        said = said.replace(re.findall(r"<script>(.*?)</script>", said, re.DOTALL)[1], "")
    assert not obeyed(said)


def test_a_coloured_report_holds_its_own_colours_only() -> None:
    assert not obeyed(re.sub(r"\x1b\[[\d;]*m", "", text(evil(), 100, coloured=True)))


def test_a_page_holds_no_element_and_no_script_of_others() -> None:
    page = render(evil(), "html")
    assert "<img" not in page
    assert page.count("</script>") == page.count("<script") == 4
    figures = json.loads(re.findall(r'id="figures">(.*?)</script>', page, re.DOTALL)[0])
    texts = [
        trace[key]
        for figure in figures.values()
        for trace in figure["data"]
        for key in ("name", "hovertext")
        if key in trace
    ]
    assert "&lt;img" in str(texts)
    assert "<img" not in str(texts)


def test_no_cell_of_a_csv_report_is_a_formula() -> None:
    rows = list(csv.reader(io.StringIO(render(evil(), "csv"))))
    cells = [cell for row in rows for cell in row]
    assert any("=cmd" in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_numbers_below_zero_stay_numbers_in_a_csv_report() -> None:
    cold = replace(record(), trials=tuple(replace(trial, seed=-trial.number) for trial in record().trials))
    assert [row["seed"] for row in csv.DictReader(io.StringIO(render(cold, "csv")))][:2] == ["-1", "-2"]


def test_a_program_reads_the_very_texts_from_json() -> None:
    assert json.loads(render(evil(), "json"))["facts"]["labels"] == [f"{EVIL} negative", f"{EVIL} positive"]


def events(found: SearchRecord) -> list[Any]:
    trial = found.trials[0]
    return [
        Doing(EVIL),
        Begun(found),
        BaselinesKnown(found.baselines),  # type: ignore[arg-type]
        TrialBegan(trial),
        TrialReported(trial),
        *(TrialEnded(each) for each in found.trials),
        TurnedAway(EVIL),
        Confirming(3),
        *(TrialConfirmed(each) for each in found.confirmations),
        Ended(found),
    ]


def test_no_line_of_a_search_as_it_goes_holds_what_a_terminal_would_obey() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        for event in events(evil()):
            progress(event)
    assert "calc" in stream.getvalue()
    assert not obeyed(stream.getvalue())


def test_no_live_display_holds_what_a_terminal_would_obey() -> None:
    standing = Standing(0.0)
    for event in events(evil())[:-1]:
        standing = standing.after(event, 1.0)
        console = Console(file=io.StringIO(), width=2000, height=60, force_terminal=True)
        console.print(Screen(lambda standing=standing: standing, lambda: 2.0))  # type: ignore[misc]
        assert not obeyed(re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue()))  # type: ignore[attr-defined]


def test_no_command_prints_what_a_terminal_would_obey(tmp_path: Path) -> None:
    storage = ("--storage", f"sqlite:///{tmp_path}/searches.db")
    with Repository(storage[1]) as repository:
        repository.create(evil())
    csv = ["report", "--format", "csv"]
    for command in (["list"], ["report"], csv, ["select"], ["export", evil().name, "1", "--to", "x"]):
        result = CliRunner().invoke(main, [*command, *storage], catch_exceptions=False)
        assert "calc" in result.output or command[0] == "export"
        assert not obeyed(result.output), command


def test_commands_in_notes_are_code_and_nothing_else_of_them_is_markup() -> None:
    assert _with_code("`autopeft confirm` <b>") == Markup("<code>autopeft confirm</code> &lt;b&gt;")
