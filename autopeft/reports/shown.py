"""What objects show of themselves in a notebook: the report's own page and tables, as HTML.

Every text that somebody could have written is escaped. The page of a search stands in a frame of its own, so that its
styles and scripts and those of the notebook leave each other alone.
"""

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from autopeft.confirmed import Confirmed
from autopeft.objectives import ACCURACY, COSTS, show
from autopeft.reports import confirmations, costs
from autopeft.reports.apart import apart
from autopeft.reports.sound import sound
from autopeft.reports.wording import capital, describe_fully, why
from autopeft.sizes import show_seconds
from autopeft.trial import Costs, SearchRecord, Trial

if TYPE_CHECKING:
    from autopeft.costs.told import Estimate

_HEIGHT = "44rem"


def html_of(value: Any) -> str:
    """A trial, costs, an estimate, or what confirmations say."""
    match value:
        case Trial():
            return _trial(value)
        case Costs():
            return _costs(value)
        case Confirmed():
            return _confirmed(value)
        case _:
            return _estimate(value)


def search_html(record: SearchRecord) -> str:
    """The report's page, plots and all."""
    from autopeft.reports.format.html import page

    style = f"width: 100%; height: {_HEIGHT}; border: 0"
    return f'<iframe srcdoc="{escape(page(sound(record), packed=True))}" style="{style}" title="report"></iframe>'


def _trial(trial: Trial) -> str:
    """Its settings, its score and all its costs."""
    record = trial.search
    settings = describe_fully(trial.candidate, *([record.of_task] if record else []))
    rows = [("settings", settings), ("status", trial.status.value)]
    if trial.outcome is not None and trial.outcome.reason:
        rows.append(("why", why(trial)))
    metric = ACCURACY if record is None else record.metric
    values = costs.lines(trial, metric, {}) if trial.score is not None else _known(trial.predicted)
    return _table(f"Trial {trial.number}: {trial.candidate.name}", (), [*rows, *values])


def _costs(its: Costs) -> str:
    """Every cost that is known, and what memory is made of."""
    parts = [(f"memory, {name}", show("memory", size)) for name, size in its.memory_by_part.items()]
    return _table("Costs", (), [*_known(its), *parts])


def _known(its: Costs) -> list[tuple[str, str]]:
    """The costs that are known, in the words of reports."""
    values = {name: getattr(its, name) for name in COSTS}
    return [(COSTS[name].heading, COSTS[name].show(value)) for name, value in values.items() if value is not None]


def _estimate(its: "Estimate") -> str:
    """What one method costs, and the largest settings that fit."""
    if its.costs is None:
        return _table(its.name, (), [("refused", its.refused)])
    fits = [(f"largest {name.replace('_', ' ')} that fits", str(most or "none")) for name, most in its.largest.items()]
    takes = [("whole training", show_seconds(its.seconds.seconds))] if its.seconds else []
    return _table(its.name, (), [*_known(its.costs), *takes, *fits])


def _confirmed(sure: Confirmed) -> str:
    """The report's table of the front that was trained again."""
    rows = confirmations.rows(sure, sure.metric)
    named = apart(trial for trial, _ in rows)
    headings = ("trial", "method", *confirmations.headings(sure))
    cells = [(str(trial.number), named[trial.number], *its) for trial, its in rows]
    return _table(confirmations.title(sure), headings, cells)


def _table(title: str, headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table with a caption; without headings the first cell of every row is one."""
    head = "".join(f"<th>{escape(capital(each))}</th>" for each in headings)
    body = "".join(
        "<tr>"
        + "".join(
            f"<th>{escape(capital(cell))}</th>" if not (headings or at) else f"<td>{escape(cell)}</td>"
            for at, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if headings else ""
    return f"<table><caption>{escape(title)}</caption>{top}<tbody>{body}</tbody></table>"
