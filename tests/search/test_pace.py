"""How long it takes until a first rung, told by what was measured: a table."""

from dataclasses import replace

import pytest

from autopeft.search.pace import seconds_to_first_rung
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.trial import Costs, Outcome, Rung, Status, Trial

TRAINING = Training(batch_size=10, epochs=9)
LORA, SAID = (Candidate(name, (Part(name),), TRAINING) for name in ("lora", "said"))
COSTS = Costs(1, 1, 1, flops=100)


def measured(candidate: Candidate, seconds: float, set_up: float = 0.0) -> Trial:
    """90 steps of 100 operations each took so long."""
    outcome = Outcome(Status.FINISHED, facts={"set_up_seconds": set_up})
    return Trial(1, candidate, COSTS, {}, 1, Status.FINISHED, (Rung(90, 90, 0.5, 0.1, 0.1, seconds),), outcome)


@pytest.mark.parametrize(
    ("trials", "candidate", "flops", "expected"),
    [
        ([], LORA, 100, None),
        ([measured(LORA, 90.0)], LORA, 100, 10.0),
        ([measured(LORA, 90.0)], LORA, 300, 30.0),
        ([measured(LORA, 90.0)], SAID, 100, 10.0),
        ([measured(LORA, 90.0), measured(SAID, 900.0)], SAID, 100, 100.0),
        ([measured(LORA, 90.0, 5.0)], LORA, 100, 15.0),
        ([measured(LORA, 90.0, 5.0)], SAID, 100, 10.0),
        ([replace(measured(LORA, 90.0), curve=())], LORA, 100, None),
    ],
)
def test_a_method_s_own_trials_tell_its_speed_and_those_of_others_where_it_has_none(
    trials: list[Trial], candidate: Candidate, flops: int, expected: float | None
) -> None:
    costs = replace(COSTS, flops=flops)
    assert seconds_to_first_rung(trials, 100, candidate, costs) == pytest.approx(expected)
