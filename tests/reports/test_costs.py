"""What was frozen in a trial, and whether its states were kept, stands beside its costs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from autopeft.objectives import score_of
from autopeft.reports.costs import lines
from autopeft.tasks.metrics import ACCURACY
from tests.reports.records import MIB, trial


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
    metric = score_of(ACCURACY.name, ACCURACY.heading, ACCURACY.higher_is_better, ACCURACY.ideal)
    said = dict(lines(replace(one, outcome=replace(one.outcome, facts=facts)), metric, {}))
    assert said.get("frozen layers") == told
