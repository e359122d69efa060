"""Seconds follow from operations, and each method's pace from its own trials."""

from dataclasses import replace

import pytest
from autopeft.search.seconds_of import SecondsOf

from autopeft.space.candidate import Candidate, Part, Training
from autopeft.trial import Costs, Rung, Status, Trial

COSTS = Costs(1, 1, 1, flops=10**9)
ROWS = 960


def candidate(method: str, epochs: float = 1) -> Candidate:
    return Candidate(method, (Part(method),), Training(batch_size=32, epochs=epochs))


def trial(method: str, seconds: float, step: int = 30) -> Trial:
    curve = (Rung(step, 30, 0.5, 0.02, 1.0, seconds),)
    return Trial(1, candidate(method), COSTS, {}, 0, Status.FINISHED, curve)


def test_before_anything_is_measured_seconds_go_with_operations() -> None:
    seconds = SecondsOf(ROWS)
    once = seconds(candidate("lora"), COSTS)
    assert seconds(candidate("lora", epochs=3), COSTS) == pytest.approx(3 * once)
    assert seconds(candidate("said"), replace(COSTS, flops=2 * 10**9)) == pytest.approx(2 * once)
    assert seconds(candidate("fishmask"), replace(COSTS, set_up_flops=30 * 10**9)) == pytest.approx(2 * once)


def test_a_slow_method_is_known_to_be_slow_once_it_was_trained_and_others_are_as_usual() -> None:
    seconds = SecondsOf(ROWS)
    for method, took in (("lora", 20.0), ("adapter", 20.0), ("said", 200.0)):
        for _ in range(5):
            seconds.learn(trial(method, took))
    assert seconds(candidate("said"), COSTS) > 130
    assert seconds(candidate("lora"), COSTS) < 25
    assert 25 < seconds(candidate("bitfit"), COSTS) < 60


def test_what_was_stopped_early_counts_with_what_it_would_have_taken() -> None:
    early, whole = SecondsOf(ROWS), SecondsOf(ROWS)
    early.learn(trial("lora", 2.0, step=3))
    whole.learn(trial("lora", 20.0))
    assert early(candidate("lora"), COSTS) == pytest.approx(whole(candidate("lora"), COSTS)) == pytest.approx(20)


def test_what_reached_no_rung_teaches_nothing() -> None:
    seconds = SecondsOf(ROWS)
    before = seconds(candidate("lora"), COSTS)
    seconds.learn(replace(trial("lora", 20.0), curve=()))
    assert seconds(candidate("lora"), COSTS) == before
