"""What is concluded from trials that ran out of memory."""

import pytest

from autopeft.searching.correction import Correction, corrected, ran_out_of_memory
from autopeft.trial import Outcome, Status


@pytest.mark.parametrize(
    ("ran_out", "factor", "limit"),
    [
        pytest.param([(500, 800)], 1.6, 499, id="less than what ran out"),
        pytest.param([(800, 800)], 1.0, 799, id="a right prediction of what was allowed"),
        pytest.param([(900, 800)], 1.0, 899, id="predictions are never made less"),
        pytest.param([(500, 800), (400, 800)], 2.0, 399, id="the smallest counts"),
        pytest.param([(400, 800), (500, 800)], 2.0, 399, id="in whatever order"),
        pytest.param([(5, 64_000)], 12_800, 4, id="a device that others filled costs no more than that"),
    ],
)
def test_what_ran_out_makes_predictions_count_for_more(
    ran_out: list[tuple[int, int]], factor: float, limit: int
) -> None:
    known: Correction | None = None
    for predicted, allowed in ran_out:
        known = corrected(known, predicted, allowed)
    assert known is not None
    assert known.factor == pytest.approx(factor)
    assert known.limit == limit


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome(Status.FAILED, "out of memory: CUDA out of memory."), True),
        (Outcome(Status.FAILED, "RuntimeError: a defect"), False),
        (Outcome(Status.STOPPED, "out of memory"), False),
        (Outcome(Status.FINISHED), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_ends(outcome: Outcome, said: bool) -> None:
    assert ran_out_of_memory(outcome) is said
