"""What is given again, as a table."""

import pytest

from autopeft.searching.again import ALONE, LOST, second_chance
from autopeft.searching.ledger import DEVICE_PART
from autopeft.trial import Outcome, Status

SHARED, WHOLE = {DEVICE_PART: 0.125}, {DEVICE_PART: 1.0}
RAN_OUT = "out of memory: CUDA out of memory."


@pytest.mark.parametrize(
    ("outcome", "had", "chance"),
    [
        (Outcome(Status.LOST, "the worker was lost"), (), LOST),
        (Outcome(Status.LOST, "the worker was lost"), (LOST,), None),
        (Outcome(Status.LOST, "the worker was lost", facts=SHARED), (ALONE,), LOST),
        (Outcome(Status.FAILED, RAN_OUT, facts=SHARED), (), ALONE),
        (Outcome(Status.FAILED, RAN_OUT, facts=SHARED), (LOST,), ALONE),
        (Outcome(Status.FAILED, RAN_OUT, facts=SHARED), (ALONE,), None),
        (Outcome(Status.FAILED, RAN_OUT, facts=WHOLE), (), None),
        (Outcome(Status.FAILED, RAN_OUT), (), None),
        (Outcome(Status.FAILED, "RuntimeError: a defect", facts=SHARED), (), None),
        (Outcome(Status.STOPPED, facts=SHARED), (), None),
        (Outcome(Status.FINISHED, facts=SHARED), (), None),
    ],
)
def test_a_lost_trial_is_given_again_once_and_one_that_ran_out_beside_others_once_alone(
    outcome: Outcome, had: tuple[str, ...], chance: str | None
) -> None:
    assert second_chance(outcome, had) == chance
