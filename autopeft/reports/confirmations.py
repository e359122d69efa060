"""What confirmations say of a front, in words: the same table and the same lines for all formats."""

from collections import defaultdict

from autopeft.confirmed import Confirmed, Neighbours
from autopeft.objectives import Objective
from autopeft.reports.findings import Findings
from autopeft.reports.wording import first_line, numbers, plural, so_far
from autopeft.trial import SearchRecord, Trial


def title(sure: Confirmed) -> str:
    """What was done to be sure."""
    return f"Front trained again with {plural(sure.seeds, 'seed')}, judged on {sure.rows:,} {sure.split} rows"


def headings(sure: Confirmed) -> tuple[str, ...]:
    """Columns after trial and method."""
    tested = ("test",) if sure.split == "test" else ()
    return ("score in search", "validation", *tested, "on the front")


def rows(sure: Confirmed, metric: Objective) -> tuple[tuple[Trial, tuple[str, ...]], ...]:
    """Each member with its cells, the best first."""
    return tuple(
        (
            each.trial,
            (
                f"{metric.show(each.trial.score)}{so_far(each.trial)}",
                *(
                    metric.show_with(spread.mean, spread.deviation)
                    for spread in (each.validation, each.test)
                    if spread is not None
                ),
                f"{each.on_front:.0%}",
            ),
        )
        for each in sure.members
    )


def lines(record: SearchRecord, found: Findings) -> tuple[str, ...]:
    """Which members can be told apart, and what a reader must know before believing it."""
    sure = found.confirmed
    if sure is None:
        return _failures(record, found)
    said = [_compared(each, record.metric) for each in sure.neighbours]
    if sure.excess is not None:
        by, moved = record.metric.show(abs(sure.excess)), "worse" if sure.excess > 0 else "better"
        apart = f"{by} {moved} on average than" if by != record.metric.show(0.0) else "on average the same as"
        said.append(
            f"With other seeds, scores on the same validation rows are {apart} in the search, which chose the front by "
            "them."
        )
    if in_part := tuple(each.trial.number for each in sure.members if so_far(each.trial)):
        said.append(
            f"Trained whole here, and in the search only for the part that is told: {numbers(in_part)}. What ships is "
            "what the search trained."
        )
    if sure.of_earlier_steps:
        said.append(
            f"{plural(sure.of_earlier_steps, 'training')} judged the best of three rungs, as earlier versions of "
            "autopeft did, not the last step, which is what ships: that flatters. `autopeft confirm` trains them again."
        )
    if sure.split == "validation":
        said.append(
            "There is no test split: the search chose by these very rows, so expect scores to be a little worse on new "
            "data."
        )
    if sure.seeds > 1:
        said.append("± is the standard deviation over seeds.")
    else:
        said.append("With a single seed each, nobody knows how much seeds matter: only the choice of rows is weighed.")
    said.append(
        "On the front: the probability that no other confirmed member that costs no more is as good, given the "
        "choice of rows and seeds."
    )
    done = {each.trial.number for each in sure.members}
    if lacking := tuple(trial.number for trial in found.front if trial.number not in done):
        said.append(f"Not confirmed: {numbers(lacking)}.")
    return (*said, *_failures(record, found))


def _failures(record: SearchRecord, found: Findings) -> tuple[str, ...]:
    reasons: dict[tuple[str, str], tuple[int, ...]] = defaultdict(tuple)
    for each in record.confirmations:
        if each.status.came_to_nothing:
            reasons[each.status.value, first_line(each.reason)] += (each.number,)
    said = [f"Trained again and {how}, {numbers(which)}: {reason}" for (how, reason), which in reasons.items()]
    lacking = {number for which in reasons.values() for number in which} & {trial.number for trial in found.front}
    return (*said, "`autopeft confirm` trains once more what is on the front.") if lacking else tuple(said)


def _compared(pair: Neighbours, metric: Objective) -> str:
    p = "p < 0.001" if pair.p < 0.001 else f"p = {pair.p:.3f}"
    error = (pair.high - pair.low) / 4
    low, high = ("-+"[end >= 0] + metric.show_like(abs(end), error) for end in (pair.low, pair.high))
    by = f"by {metric.show_like(pair.difference, error)} (95% interval {low} to {high}, {p})"
    if pair.apart:
        return f"Trial {pair.ahead} is better than trial {pair.behind}: {by}."
    return f"Trials {pair.ahead} and {pair.behind} cannot be told apart: they differ {by}."
