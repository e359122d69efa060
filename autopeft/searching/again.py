"""Which trials are trained again because what became of them says nothing of their candidate. Pure.

A trial whose worker was lost is given again once. One that ran out of memory on a device that it had to share is given
again once with a whole device to itself: neighbours may have filled it. Neither teaches anybody anything until then.
"""

from collections.abc import Collection

from autopeft.searching.correction import ran_out_of_memory
from autopeft.searching.ledger import DEVICE_PART
from autopeft.trial import Outcome, Status

LOST = "lost"
ALONE = "alone"
"""It is given again with a whole device to itself."""


def second_chance(outcome: Outcome, had: Collection[str]) -> str | None:
    """Why a trial is trained again after this outcome, LOST or ALONE; None where the outcome stands. `had` are the
    chances that the trial had before.
    """
    if outcome.status is Status.LOST and LOST not in had:
        return LOST
    if ran_out_of_memory(outcome) and outcome.facts.get(DEVICE_PART, 1.0) < 1 and ALONE not in had:
        return ALONE
    return None
