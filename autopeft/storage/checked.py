"""Whether what a database holds is what autopeft writes: a stranger may have changed any cell of it.

Every field of what is loaded has the type that it is declared with, numbers lie where they can lie, and what is
reckoned with later (answers of rows, facts) fits together. So reports, resumed searches and selections need not ask.
"""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from autopeft.foreign import brief
from autopeft.objectives import Objective
from autopeft.trial import Answers, Baseline, Costs, Outcome, Rung, SearchRecord, Trial

_Value = TypeVar("_Value")
_YEARS = range(1970, 9000)
_FACTS: Mapping[str, Any] = {
    **dict.fromkeys(("data", "labels", "methods", "hybrids", "training", "settings"), list[str]),
    **dict.fromkeys(("train_rows", "validation_rows", "backbone_parameters", "batch_length", "workers"), int | None),
    **dict.fromkeys(("backbone", "data_fingerprint"), str),
    **dict.fromkeys(("refused", "versions"), Mapping[str, str] | None),
    "seconds": float,
    "asked": int,
    "asked_at_rungs": int,
    "kept": list[int],
    "pairs": list[list[str]],
    **dict.fromkeys(("warm_start", "known_good"), list[dict[str, Any]]),
    "memory_correction": Mapping[str, float],
}
"""What the facts of a search hold where something is reckoned with them; others are only shown, and may be anything."""
_OF_OUTCOMES: Mapping[str, Any] = {
    **dict.fromkeys(
        ("set_up_seconds", "seconds_per_step", "examples_per_second", "latency", "latency_bare", "bytes_on_disk"), float
    ),
    "frozen_layers": int,
    "written": list[Mapping[str, str]],
    "kept_states": int,
    "states_not_kept": str,
}
"""The same of an outcome's facts."""


def checked(value: _Value) -> _Value:
    """A loaded value, unless it holds what autopeft cannot have written: then raises ValueError that says where."""
    kind: type = type(value)
    for name, hint in _hints(kind).items():
        _require(getattr(value, name), hint, f"{kind.__name__}.{name}")
    if kind in _ALSO and not _ALSO[kind](value):
        raise ValueError(f"the numbers in {kind.__name__} do not fit together")
    return value


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _require(value: Any, hint: Any, where: str) -> None:
    if not _is(value, hint, where):
        raise ValueError(f"{where} cannot be {brief(value, 100)}")


def _is(value: Any, hint: Any, where: str) -> bool:
    """Whether a value is of a type. Values of dataclasses were checked when they were loaded."""
    origin, of = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if where == "Part.settings":  # Its values may be nested.
        return isinstance(value, Mapping)
    if origin in (UnionType, Union):
        return any(_is(value, one, where) for one in of)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is(item, of[0], where) for item in value)
    if origin is list:
        return isinstance(value, list) and all(_is(item, of[0], where) for item in value)
    if origin is not None:
        texts = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
        return texts and all(_is(item, of[1], where) for item in value.values())
    if hint in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        return whole or (hint is float and isinstance(value, float))
    if hint is datetime:
        return isinstance(value, datetime) and value.year in _YEARS
    return isinstance(value, NoneType if hint is None else hint)


def _facts_hold(facts: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    for name, hint in known.items():
        if name in facts:
            _require(facts[name], hint, f"the fact '{name}'")
    return True


def _is_score(value: float) -> bool:
    """Not a number, or one of which many can be added up."""
    return math.isnan(value) or abs(value) < 1e100


def _costs_hold(costs: Costs) -> bool:
    return not any(isinstance(value, int | float) and value < 0 for value in vars(costs).values())


def _baseline_holds(baseline: Baseline) -> bool:
    if not (_is_score(baseline.score) and _is_score(baseline.error)) or baseline.left_out < 0:
        return False
    if baseline.rows is None:
        return True
    answers = len(baseline.rows) if baseline.answers is None else baseline.answers.rows
    return answers == len({*baseline.rows}) == len(baseline.rows) and min(baseline.rows, default=0) >= 0


def _record_holds(record: SearchRecord) -> bool:
    correction = record.facts.get("memory_correction") or {"factor", "ran_out"}
    return _facts_hold(record.facts, _FACTS) and {"factor", "ran_out"} <= set(correction)


_ALSO: Mapping[type, Callable[[Any], bool]] = {
    Costs: _costs_hold,
    Rung: lambda rung: rung.step >= 0 and rung.steps >= 0 and _is_score(rung.score) and _is_score(rung.error),
    Answers: lambda answers: 0 < answers.rows == len(answers.values) / 4 and _is_score(answers.score),
    Outcome: lambda outcome: _facts_hold(outcome.facts, _OF_OUTCOMES),
    Trial: lambda trial: trial.number > 0,
    SearchRecord: _record_holds,
    Baseline: _baseline_holds,
    Objective: lambda metric: metric.ideal is None or _is_score(metric.ideal),
}
