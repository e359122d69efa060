"""A record as reports can rely on it: facts that are not what their names promise are left out. Pure.

A database may have been written by another version, or by hand; no report fails because of that.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from autopeft.trial import SearchRecord, Trial


def sound(record: SearchRecord) -> SearchRecord:
    """The same record without facts that are of another kind than reports read them as."""
    return replace(record, facts=_sound(record.facts, _OF_SEARCH), trials=tuple(_trial(each) for each in record.trials))


def _trial(trial: Trial) -> Trial:
    if trial.outcome is None:
        return trial
    return replace(trial, outcome=replace(trial.outcome, facts=_sound(trial.outcome.facts, _OF_OUTCOME)))


def _sound(facts: Mapping[str, Any], kinds: Mapping[str, Callable[[Any], bool]]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in kinds or kinds[name](value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_count(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_correction(value: Any) -> bool:
    return _is_mapping(value) and all(_is_number(value.get(name)) for name in ("factor", "ran_out"))


_OF_SEARCH: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("data", "labels", "warm_start"), _is_list),
    **dict.fromkeys(("versions", "refused"), _is_mapping),
    **dict.fromkeys(("train_rows", "validation_rows"), _is_count),
    **dict.fromkeys(("backbone_parameters", "seconds"), _is_number),
    "memory_correction": _is_correction,
}
_OF_OUTCOME: Mapping[str, Callable[[Any], bool]] = dict.fromkeys(
    ("latency", "latency_bare", "set_up_seconds", "seconds_per_step", "examples_per_second", "bytes_on_disk"),
    _is_number,
)
