"""The live display of a search: as much of it as the terminal has room for, the most wanted first.

Drawn in the display's own thread from a frozen `Standing`; it fits every size, down to one line of one column.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from autopeft.foreign import printable
from autopeft.objectives import Objective, show
from autopeft.reports.findings import turned_away
from autopeft.reports.lines import show_baselines, show_clock, show_count_of
from autopeft.reports.standing import Standing
from autopeft.reports.wording import describe, first_line, plural, so_far, why
from autopeft.sizes import show_seconds
from autopeft.trial import Rung, Trial

_BARS = "▁▂▃▄▅▆▇█"
_MOST_FRONT = 8
_MOST_RUNNING = 8
_MOST_ENDED = 5


class Screen:
    """A renderable that asks for the standing whenever it is drawn."""

    def __init__(self, standing: Callable[[], Standing], clock: Callable[[], float]) -> None:
        self._standing = standing
        self._clock = clock

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = max(options.size.height - 1, 1)
        for line in map(_harmless, screen(self._standing(), self._clock(), height)):
            line.truncate(options.max_width, overflow="ellipsis")
            line.no_wrap = True
            yield line


def _harmless(line: Text) -> Text:
    """The line, or one of a single colour where it holds what a terminal would obey."""
    said = printable(line.plain, keep="")
    return line if said == line.plain else Text(said, style=line.style)


def screen(standing: Standing, now: float, height: int) -> list[Text]:
    """At most `height` lines: the state, then running trials, front, ended trials and failures while there is room."""
    shown = list(_head(standing, now))[:height]
    for section in _sections(standing):
        heading = [Text(section.title, style="bold"), *section.columns]
        room = height - len(shown) - len(heading)
        if room < 1 or not section.lines:
            continue
        shown += [*heading, *section.lines[:room]]
    return shown


def _head(standing: Standing, now: float) -> Iterator[Text]:
    state = [show_clock(standing.elapsed(now))]
    if standing.doing:
        state.append(standing.doing)
    if standing.plan is not None:
        state.insert(0, f"{show_count_of(standing)}")
        left = standing.left(now)
        state.append("" if left is None else f"about {show_seconds(left)} left")
    yield Text("  ".join(part for part in state if part), style="bold cyan")
    if standing.record is not None:
        facts = standing.record.facts
        on = f" of {facts['backbone']}" if "backbone" in facts else ""
        yield Text(f"search {standing.record.name}{on}")
    said = [show_baselines(standing.baselines, standing.metric)] if standing.baselines else []
    if away := turned_away(standing.turned_away):
        said.append(away)
    if said:
        yield Text("; ".join(said), style="dim")


@dataclass(frozen=True)
class _Section:
    """Lines about several trials."""

    title: str
    lines: list[Text]
    columns: tuple[Text, ...] = ()
    """What stands above the lines: one line, or none."""


def _sections(standing: Standing) -> Iterator[_Section]:
    running, metric = list(standing.running.values()), standing.metric
    trained = [_running(trial, metric) for trial in running[:_MOST_RUNNING]]
    yield _table(f"training {plural(len(running), 'trial')}", (metric.heading, "method"), trained)
    front = sorted(standing.front, key=lambda trial: -metric.sign * (trial.score or 0.0))
    more = f", the best {_MOST_FRONT}" if len(front) > _MOST_FRONT else ""
    columns = (metric.heading, "memory", "trainable", "method")
    best = [_measured(trial, metric) for trial in front[:_MOST_FRONT]]
    yield _table(f"front: {plural(len(front), 'trial')}{more}", columns, best)
    ended = [_measured(trial, metric) for trial in standing.ended[: -_MOST_ENDED - 1 : -1]]
    yield _table("ended last", columns, ended)
    failed = standing.failed
    reasons = dict.fromkeys(first_line(trial.outcome.reason) for trial in failed if trial.outcome)
    lines = [Text(f"  {reason}", style="red") for reason in list(reasons)[-_MOST_ENDED:]]
    yield _Section(", ".join(standing.failures()), lines)


@dataclass(frozen=True)
class _Row:
    """What stands below the columns of one trial, the last without an end; or instead of them a reason."""

    trial: Trial
    cells: tuple[str, ...]
    style: str = ""


def _running(trial: Trial, metric: Objective) -> _Row:
    score = f"{sparkline(trial.curve)} {metric.show(trial.score)} after {trial.share:.0%}" if trial.curve else "-"
    return _Row(trial, (score, describe(trial.candidate)))


def _measured(trial: Trial, metric: Objective) -> _Row:
    said = describe(trial.candidate)
    if trial.status.came_to_nothing:
        return _Row(trial, (f"{trial.status.value}: {why(trial)}  {said}",), "red")
    costs = (show(name, trial.value(name)) for name in ("memory", "trainable"))
    return _Row(trial, (f"{metric.show(trial.score)}{so_far(trial)}", *costs, said))


def _table(title: str, columns: tuple[str, ...], rows: list[_Row]) -> _Section:
    """Columns as wide as what stands in them; what has only a reason takes the whole line."""
    whole = [columns, *(row.cells for row in rows if len(row.cells) == len(columns))]
    widths = [max(len(each[at]) for each in whole) for at in range(len(columns) - 1)]

    def line(first: str, cells: tuple[str, ...], style: str) -> Text:
        said = [cell.ljust(width) for cell, width in zip(cells, [*widths, 0], strict=False)]
        return Text(f"  {first:>5}  {'  '.join(said if len(cells) == len(columns) else cells)}".rstrip(), style=style)

    lines = [line(str(row.trial.number), row.cells, row.style) for row in rows]
    return _Section(title, lines, (line("trial", columns, "dim"),))


def sparkline(curve: tuple[Rung, ...]) -> str:
    """Scores over the rungs, stretched to what the curve spans."""
    values = [rung.score for rung in curve[-12:] if math.isfinite(rung.score)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    top = len(_BARS) - 1
    return "".join(_BARS[round((value - low) / (high - low) * top) if high > low else top // 2] for value in values)
