"""Several searches on the same data beside each other: the best trial of each, what it costs, who is ahead. Pure.

Searches that differ in their model, space or seed are compared by what their best trials showed. Where both learned
from the same rows, and answered the same ones, that is done row by row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from autopeft.errors import AutopeftError
from autopeft.reports.apart import apart
from autopeft.reports.drawing import LETTERS
from autopeft.reports.findings import Findings, find
from autopeft.reports.gains import between, shown_by
from autopeft.reports.tables import Row, Table
from autopeft.reports.wording import plural
from autopeft.sizes import show_seconds
from autopeft.trial import SearchRecord, Trial

MOST = len(LETTERS)


@dataclass(frozen=True)
class Comparison:
    """What there is to say about several searches."""

    table: Table
    """A row for each search, in the order in which they were given."""
    lines: tuple[str, ...]
    """Who is ahead of whom, the surest things first, and what to be careful about."""


def compare(records: Sequence[SearchRecord]) -> Comparison:
    """Of two to five searches. Raises AutopeftError for other numbers, and for searches that are not to be compared."""
    if not 2 <= len({each.name for each in records}) == len(records) <= MOST:
        raise AutopeftError(f"two to {MOST} different searches are compared at a time, not {len(records)}.")
    first = records[0]
    for other in records[1:]:
        if (other.task, other.metric) != (first.task, first.metric) or not _of_same_data(first, other):
            raise AutopeftError(
                f"'{first.name}' and '{other.name}' cannot be compared: they are to be of the same data, task and "
                f"metric, and are of {first.plan.data} ({first.task}, {first.metric.heading}) and {other.plan.data} "
                f"({other.task}, {other.metric.heading})."
            )
    found = [find(each) for each in records]
    costs = found[0].costs
    headings = ("search", "model", "best trial", first.metric.heading, *(each.heading for each in costs))
    rows: list[Row] = [
        ("", f"{letter}: {record.name}", (record.plan.model.split("/")[-1], *_best(each, costs), *_spent(record, each)))
        for letter, record, each in zip(LETTERS, records, found, strict=False)
    ]
    pairs = [
        _pair(one, other)
        for one, other in combinations(zip(LETTERS, records, found, strict=False), 2)
        if one[2].front and other[2].front
    ]
    said = [line for _, line in sorted(pairs, key=lambda pair: not pair[0])]
    if len(pairs) > 1:
        said.append("Each pair is looked at alone: of many pairs, one in 20 seems different by chance.")
    if any(each.confirmed is None for each in found):
        said.append(
            "Each best trial was picked out of many by its score, which flatters those of larger searches; `autopeft "
            "confirm` trains fronts again with other seeds."
        )
    return Comparison(Table((*headings, "trials", "search took"), rows), tuple(said))


def _of_same_data(one: SearchRecord, other: SearchRecord) -> bool:
    return _of_same_rows(one, other) or one.plan.data == other.plan.data


def _of_same_rows(one: SearchRecord, other: SearchRecord) -> bool:
    known = one.facts.get("data_fingerprint")
    return known is not None and known == other.facts.get("data_fingerprint")


def _best(found: Findings, costs: Sequence[object]) -> tuple[str, ...]:
    if not found.front:
        return ("none", *("-" for _ in range(len(costs) + 1)))
    best = found.front[0]
    return (f"{best.number}: {apart(found.front)[best.number]}", found.score(best), *_costs(found, best, len(costs)))


def _costs(found: Findings, trial: Trial, most: int) -> tuple[str, ...]:
    return tuple(cost.show(trial.value(cost.name)) for cost in found.costs[:most])


def _spent(record: SearchRecord, found: Findings) -> tuple[str, str]:
    return str(len(record.trials)), "-" if found.seconds is None else show_seconds(found.seconds)


def _pair(one: tuple[str, SearchRecord, Findings], other: tuple[str, SearchRecord, Findings]) -> tuple[bool, str]:
    """Whether it is sure who is ahead, and what there is to say."""
    metric = one[1].metric
    mine, its = (shown_by(record, found.front[0], found.confirmed) for _, record, found in (one, other))
    apart_by = between(mine, its, metric, _of_same_rows(one[1], other[1]))
    ahead, behind = (one, other) if apart_by.by >= 0 else (other, one)
    by = f"by {metric.show_like(abs(apart_by.by), apart_by.error)} ± {metric.show_like(apart_by.error, apart_by.error)}"
    how = "each with rows of its own" if apart_by.rows is None else f"row by row on {plural(apart_by.rows, 'row')}"
    if not apart_by.is_sure:
        return False, f"{one[0]} and {other[0]} cannot be told apart: they differ {by} ({how})."
    return True, f"{ahead[0]} is ahead of {behind[0]} {by} ({how}), which is more than chance."
