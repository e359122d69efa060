"""What models wrote, where they were judged by that: some texts beside the answers that were expected, and the loss
beside the score. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autopeft.objectives import score_of
from autopeft.reports.findings import Findings
from autopeft.trial import ASKED, SearchRecord, Trial

_LONGEST = 200
"""Characters of a text."""
_LOSS = score_of("loss", "loss per token", False, 0.0)


@dataclass(frozen=True)
class Texts:
    """What one model wrote."""

    title: str
    rows: Sequence[Mapping[str, str]]
    """Each with its prompt, the answer that was expected, and what was generated."""


def losses(record: SearchRecord, found: Findings) -> str:
    """The loss of the front's trials as a sentence; empty where they were judged by it, or nobody knows it."""
    if not record.facts.get(ASKED):
        return ""
    said = [
        f"trial {trial.number} {_LOSS.show_with(trial.others[_LOSS.name], trial.other_errors.get(_LOSS.name))}"
        for trial in found.front
        if _LOSS.name in trial.others
    ]
    return f"Loss per token on all validation rows, beside {found.metric.heading}: {', '.join(said)}." if said else ""


def texts(found: Findings) -> Iterator[Texts]:
    """Of the best trial, the knee, and the best baseline, where they are known."""
    best, knee = (found.front or (None,))[0], found.knee
    if best is not None and (rows := _of(best)):
        yield Texts(f"Written by trial {best.number}, the best", rows)
    if knee is not None and knee != best and (rows := _of(knee)):
        yield Texts(f"Written by trial {knee.number}, the knee", rows)
    if found.baseline is not None and found.baseline[1].written:
        name, baseline = found.baseline
        yield Texts(f"Written by the {name}", [_short(each) for each in baseline.written])


def _of(trial: Trial) -> Sequence[Mapping[str, str]]:
    rows: Any = trial.outcome.facts.get("written", ()) if trial.outcome else ()
    return [_short(each) for each in rows]


def _short(row: Mapping[str, str]) -> Mapping[str, str]:
    """On one line each; of a prompt its end, which says what was asked."""
    lines = {name: " ".join(row.get(name, "").split()) for name in ("prompt", "answer", "generated")}
    cut = {name: f"{line[:_LONGEST]}…" if len(line) > _LONGEST else line for name, line in lines.items()}
    prompt = lines["prompt"]
    return {**cut, "prompt": f"…{prompt[-_LONGEST:]}" if len(prompt) > _LONGEST else prompt}
