"""Trials as Hypothesis draws them, and a comparison under which 'not a number' equals itself."""

import math
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from autopeft.space.candidate import Candidate, Part, Training
from autopeft.trial import Answers, Confirmation, Costs, Outcome, Rung, Status, Trial

whole = st.integers(min_value=0, max_value=2**63 - 1)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
moments = st.datetimes(
    datetime(1970, 1, 2),
    datetime(2200, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
facts = st.dictionaries(
    st.text(max_size=10), st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=5), max_size=3
)
parts = st.builds(Part, names, st.dictionaries(names, values, max_size=4), st.floats(), st.floats())
candidates = st.builds(Candidate, names, st.lists(parts, max_size=2).map(tuple), st.builds(Training))
by_part = st.dictionaries(names, whole, max_size=3)
costs = st.builds(Costs, whole, whole, whole, whole, by_part, st.none() | whole, st.none() | st.floats(0, 10))
scores = st.floats(-1e9, 1e9) | st.just(math.nan)
rungs = st.builds(Rung, whole, whole, scores, st.floats(), st.floats())
outcomes = st.builds(Outcome, st.sampled_from(Status), names, st.floats(), st.none() | costs, names, facts)
answers = st.builds(
    lambda accuracy, right: Answers(accuracy, 8 * len(right) - 3, right), scores, st.binary(min_size=1, max_size=20)
)


def confirmations(number: int) -> st.SearchStrategy[Confirmation]:
    """Any second confirmation of the trial of this number."""
    return st.builds(
        Confirmation,
        st.just(number),
        st.just(2),
        whole,
        st.sampled_from(Status),
        names,
        st.floats(),
        whole,
        st.none() | answers,
        st.none() | answers,
        facts,
        st.none() | moments,
    )


def trials(number: int) -> st.SearchStrategy[Trial]:
    """Any trial of this number."""
    return st.builds(
        Trial,
        st.just(number),
        candidates,
        costs,
        st.dictionaries(names, scalars, max_size=4),
        whole,
        st.sampled_from(Status),
        st.lists(rungs, max_size=4).map(tuple),
        st.none() | outcomes,
        st.none() | moments,
        st.none() | moments,
    )


def comparable(value: Any) -> Any:
    """The same value with a text in place of every 'not a number'."""
    if is_dataclass(value):
        return type(value), [comparable(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [comparable(item) for item in value]
    return "not a number" if isinstance(value, float) and math.isnan(value) else value
