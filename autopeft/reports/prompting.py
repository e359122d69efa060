"""Whether fine-tuning beats prompting: the first thing that a report on a language model says. Pure.

Prompting is the backbone as it is, or with examples in its prompt, whichever does best; both are compared row by row.
"""

import math
from dataclasses import dataclass

from autopeft.reports.findings import Findings, baseline_rows
from autopeft.reports.gains import Difference, compared
from autopeft.reports.wording import plural, so_far
from autopeft.trial import Baseline, SearchRecord, Trial


@dataclass(frozen=True)
class Prompting:
    """The best trial, and the best that can be had without training."""

    trial: Trial
    name: str
    """Of the baseline."""
    baseline: Baseline
    difference: Difference


def prompting(record: SearchRecord, found: Findings) -> Prompting | None:
    """None where no trial is on the front, or nobody asked the backbone."""
    asked = [
        (name, each)
        for name, each in baseline_rows(record.baselines, record.metric)
        if each.tokens is not None and each.answers is not None
    ]
    if not asked or not found.front or found.front[0].score is None:
        return None
    (name, baseline), trial = asked[0], found.front[0]
    return Prompting(trial, name, baseline, compared(record, trial, baseline, found.confirmed))


def answer(record: SearchRecord, found: Findings) -> str:
    """The same as a sentence; empty where there is nothing to say."""
    if (seen := prompting(record, found)) is None:
        return ""
    by, metric = seen.difference, record.metric
    if not by.is_sure:
        said = "Fine-tuning does not beat prompting by more than chance"
    else:
        said = "Fine-tuning beats prompting" if by.by > 0 else "Prompting beats fine-tuning"
    less = "less" if (by.by > 0) != metric.higher_is_better else "more"
    on = f"on the same {plural(by.rows, 'row')}" if by.rows is not None else "on validation data"
    lacks = not any(each.tokens for each in record.baselines.values())
    name, tokens = seen.name, f" ({_longer(seen.baseline)})" if seen.baseline.tokens else ""
    return (
        f"{said}: trial {seen.trial.number}{so_far(seen.trial)} has {metric.show_like(abs(by.by), by.error)} ± "
        f"{metric.show_like(by.error, by.error)} {less} {metric.heading} than the {name}{tokens}, {on}"
        f"{'; prompts with examples were not tried' if lacks else ''}.{_break_even(record, seen)}"
    )


def _break_even(record: SearchRecord, seen: Prompting) -> str:
    """From how many answers on a training costs less time than the examples in prompts; empty where nobody knows."""
    count = break_even(record, seen)
    if count is None:
        return ""
    return f" Its training takes as long as the examples in some {count:,} prompts, and is cheaper from there on."


def break_even(record: SearchRecord, seen: Prompting) -> int | None:
    """None where prompts hold no examples, or where an answer of the trial takes as long as one with them."""
    outcome, alone = seen.trial.outcome, [each.pace for each in record.baselines.values() if each.tokens == 0]
    if outcome is None or not seen.baseline.tokens or not seen.baseline.pace or not alone or not alone[0]:
        return None
    facts = outcome.facts
    slower = facts["latency"] / facts["latency_bare"] if facts.get("latency_bare") and "latency" in facts else 1.0
    spared = seen.baseline.pace - alone[0] * slower
    return math.ceil(outcome.seconds / spared) if spared > 0 else None


def _longer(baseline: Baseline) -> str:
    return f"{baseline.tokens:,.0f} tokens more per answer"


def labelled(name: str, baseline: Baseline) -> str:
    """A baseline's name with what it costs to ask, and on how many rows: `… (212 tokens more per answer, 100 rows)`."""
    said = [_longer(baseline)] if baseline.tokens else []
    if baseline.rows is not None:
        said.append(plural(len(baseline.rows), "row"))
    if baseline.left_out:
        said.append(f"{baseline.left_out:,} left out")
    return f"{name} ({', '.join(said)})" if said else name
