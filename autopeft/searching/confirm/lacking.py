"""Which members of a front lack which seeds, and whether the test split is still the same. Pure.

All members share the seed of a repeat, so that they meet the same batches in the same order; no search uses it. All
members are trained with one seed before any is with the next, so that an interruption leaves them comparable. A
training that came to nothing is lacking still, and is tried again by the next call.
"""

from autopeft.confirmed import judges_what_ships
from autopeft.errors import AutopeftError
from autopeft.fronts import front
from autopeft.trial import Confirmation, SearchRecord, Status

_BEYOND_TRIALS = 10**15
"""Larger than the seed of any trial."""


def outstanding(record: SearchRecord, seeds: int) -> tuple[Confirmation, ...]:
    """The confirmations that the front of a search still lacks, in the order in which they are trained. Pure.

    Also those that failed or were lost, and those that judged something else than what ships: they are trained anew,
    and replaced.
    """
    trials = {trial.number: trial for trial in record.trials}
    done = {
        (each.number, each.repeat)
        for each in record.confirmations
        if each.number in trials and judges_what_ships(trials[each.number], each)
    }
    seed = _BEYOND_TRIALS + record.plan.seed * 100_003
    return tuple(
        Confirmation(trial.number, repeat, seed + repeat, Status.TRAINING)
        for repeat in range(1, seeds + 1)
        for trial in front(record.trials, record.objectives)
        if (trial.number, repeat) not in done
    )


def require_same_test(record: SearchRecord, fingerprint: str) -> None:
    """Raises AutopeftError when the search, or earlier confirmations, are known to have had other rows than these."""
    facts = [each.outcome.facts for each in record.trials if each.outcome is not None]
    facts += [each.facts for each in record.confirmations]
    known = [each.get("test_fingerprint") for each in facts]
    # A test split may come later than the search.
    if any(isinstance(each, str) and each not in ("", fingerprint) for each in known):
        raise AutopeftError(
            f"the test split of '{record.plan.data}' is not the one that search '{record.name}' began with, or was "
            "confirmed on before; put it back, or start another search."
        )
