"""Whether what was asked for came to nothing, and why: one sentence."""

from collections import Counter
from collections.abc import Iterable

from autopeft.fronts import front
from autopeft.reports.findings import turned_away
from autopeft.reports.wording import first_line, plural, why
from autopeft.trial import SearchRecord, Status


def failure(record: SearchRecord, asked: str) -> str:
    """Why a search has no front or, where `confirm` was asked for, why no member of it was confirmed; empty where all
    is well.
    """
    on_front = {trial.number for trial in front(record.trials, record.objectives)}
    if not record.trials:
        away = turned_away(record.turned_away)
        return f"no trial was trained{away and f': {away}'}."
    if not on_front:
        ended = [why(trial) for trial in record.trials if trial.outcome and trial.status is not Status.FINISHED]
        return f"none of {plural(len(record.trials), 'trial')} is on a front{_most_often(ended)}."
    again = [each for each in record.confirmations if each.number in on_front]
    if asked == "confirm" and again and all(each.status is not Status.FINISHED for each in again):
        reasons = [first_line(each.reason) for each in again]
        return f"none of {plural(len(again), 'training')} of the front finished{_most_often(reasons)}."
    return ""


def _most_often(reasons: Iterable[str]) -> str:
    common = Counter(reasons).most_common(1)
    return "".join(f"; most often ({times} of them): {reason.rstrip('.')}" for reason, times in common)
