"""Trials as Hypothesis draws them, and a comparison under which 'not a number' equals itself."""

import math
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
from hypothesis import strategies as st

from autopeft.objectives import ACCURACY, score_of
from autopeft.plan import Plan
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.trial import Answers, Baseline, Confirmation, Costs, Outcome, Rung, SearchRecord, Status, Trial

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
rungs = st.builds(
    Rung, whole, whole, scores, scores, st.floats(), st.floats(), st.dictionaries(names, st.floats(), max_size=2)
)
answers = st.builds(
    lambda score, values: Answers.of(score, np.array(values)),
    scores,
    st.lists(st.floats(width=32), min_size=1, max_size=20),
)
outcomes = st.builds(
    Outcome, st.sampled_from(Status), names, st.floats(), st.none() | costs, names, facts, st.none() | answers
)
whole_answers = st.builds(
    lambda values: Answers.of(float(np.mean(values)), np.array(values)),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=16, max_size=16),
)


@st.composite
def _baseline(draw: st.DrawFn) -> Baseline:
    """Of all rows, or of as many as have answers."""
    known = draw(st.builds(Baseline, scores, scores, st.none() | st.floats(), st.none() | answers))
    if known.answers is None or draw(st.booleans()):
        return known
    rows = draw(st.lists(st.integers(0, 40), min_size=known.answers.rows, max_size=known.answers.rows, unique=True))
    return replace(known, rows=tuple(rows), tokens=draw(st.none() | st.floats()), left_out=draw(st.integers(0, 99)))


baselines = st.dictionaries(names, _baseline(), max_size=3)
metrics = st.builds(score_of, names, names, st.booleans(), st.none() | st.just(1.0) | st.floats(-1e9, 1e9))


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


known_facts = st.fixed_dictionaries(
    {},
    optional={
        "validation_rows": st.none() | st.integers(),
        "train_rows": st.none() | st.integers(),
        "backbone_parameters": st.none() | st.integers() | st.floats(),
        "seconds": st.floats(),
        "workers": st.none() | st.integers(),
        "data": st.lists(st.text(max_size=20), max_size=3),
        "labels": st.lists(st.text(max_size=20), max_size=3),
        "device": st.none() | st.text(max_size=20),
        "memory_correction": st.none() | st.fixed_dictionaries({"factor": st.floats(), "ran_out": st.floats()}),
    },
)
"""What a search knows by these names, with any value of its kind."""
odd_facts = st.dictionaries(
    st.sampled_from(["data", "labels", "warm_start", "versions", "refused", "memory_correction", "seconds"]),
    scalars | st.dictionaries(names, scalars, max_size=2),
    max_size=1,
)
"""What another version, or a hand, may have left there."""
wild = st.tuples(
    *(st.lists(each, min_size=1, max_size=4) for each in (st.floats(0, 1), st.floats(0, 1) | st.floats()))
).map(lambda drawn: tuple(Rung(n, 9, value, 0.02, value, value) for n, value in enumerate([*drawn[0], *drawn[1]], 1)))


@st.composite
def records(draw: st.DrawFn) -> SearchRecord:
    """Any search: trials of every status, finished ones among them, confirmed with any answers, also off the front."""
    drawn = [draw(trials(number)) for number in range(1, draw(st.integers(0, 5)) + 1)]
    drawn = [replace(each, status=Status.FINISHED, curve=draw(wild)) if draw(st.booleans()) else each for each in drawn]
    confirmed = [draw(confirmations(each.number)) for each in drawn if draw(st.booleans())]
    confirmed += [replace(draw(confirmations(each.number)), repeat=1, validation=draw(whole_answers)) for each in drawn]
    return SearchRecord(
        draw(names),
        Plan("mini", "data.csv"),
        draw(moments),
        tuple(drawn),
        draw(baselines),
        draw(st.none() | moments),
        draw(known_facts) | draw(facts) | draw(odd_facts),
        draw(st.dictionaries(names, st.integers(0, 2**63), max_size=3)),
        tuple(confirmed),
        draw(names),
        draw(st.just(ACCURACY) | metrics),
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
