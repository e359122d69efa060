"""Beside costs stand what was frozen in a trial, whether its states were kept, and which time was predicted."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from autopeft.objectives import score_of
from autopeft.reports.costs import HEADINGS, cells, lines, seconds_with
from autopeft.tasks.metrics import ACCURACY
from autopeft.trial import Status
from tests.reports.records import MIB, trial

METRIC = score_of(ACCURACY.name, ACCURACY.heading, ACCURACY.higher_is_better, ACCURACY.ideal)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"frozen_layers": 3, "kept_states": 5 * MIB}, "the lowest 3, without dropout; 5.00 MiB of states kept"),
        (
            {"frozen_layers": 3, "kept_states": 0, "states_not_kept": "there is room for 7 bytes, and they take 9"},
            "the lowest 3, without dropout; states not kept: there is room for 7 bytes, and they take 9",
        ),
        ({"frozen_layers": 0, "kept_states": 0}, None),
        ({}, None),
    ],
)
def test_frozen_layers_are_told_where_there_are_some(facts: Mapping[str, Any], told: str | None) -> None:
    one = trial(1)
    assert one.outcome is not None
    said = dict(lines(replace(one, outcome=replace(one.outcome, facts=facts)), METRIC, {}))
    assert said.get("frozen layers") == told


def test_seconds_stand_beside_those_that_were_predicted() -> None:
    one = trial(1, seconds=42.0)
    told = replace(one, predicted=replace(one.predicted, time=48.0))
    assert seconds_with(told) == "42 s (48 s)"
    assert dict(lines(told, METRIC, {}))["training time"] == "48 s (measured 42 s)"
    assert dict(zip(HEADINGS, cells(told, {}), strict=True))["training time"] == "48 s\n42 s"
    assert told.measured("time") == 42.0


def test_where_nobody_predicted_them_or_the_training_was_not_whole_they_stand_alone() -> None:
    stopped = trial(1, status=Status.STOPPED, seconds=9.0)
    told = replace(stopped, predicted=replace(stopped.predicted, time=48.0))
    assert seconds_with(trial(1, seconds=42.0)) == "42 s"
    assert seconds_with(told) == "9.0 s"
    assert told.measured("time") is None
    assert seconds_with(trial(1, status=Status.TRAINING)) == "-"
