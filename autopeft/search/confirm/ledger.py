"""The driver's side of confirming a front: which members lack which seeds, and what came back of them.

All members share the seed of a repeat, so that they meet the same batches in the same order; no search uses it. All
members are trained with one seed before any is with the next, so that an interruption leaves them comparable. A
training that came to nothing is lacking still, and is tried again by the next call.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from autopeft.confirmed import judges_what_ships
from autopeft.errors import AutopeftError
from autopeft.events import Confirming, Event, TrialConfirmed
from autopeft.fronts import front
from autopeft.search.again import ALONE, second_chance
from autopeft.search.confirm.worker import Answered
from autopeft.storage.repository import Repository
from autopeft.trial import Confirmation, Outcome, Rung, SearchRecord, Status, Trial

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


class Confirmer:
    """The ledger of one sitting of confirmations."""

    def __init__(self, record: SearchRecord, seeds: int, repository: Repository, tell: Callable[[Event], None]) -> None:
        self._name = record.name
        self._trials = {trial.number: trial for trial in record.trials}
        self._repository = repository
        self._tell = tell
        self._waiting = deque(enumerate(outstanding(record, seeds), 1))
        self._given: dict[int, Confirmation] = {}
        self._chances: dict[int, tuple[str, ...]] = {}
        tell(Confirming(len(self._waiting)))

    def next(self) -> Trial | None:
        """The next training: a trial like the one that it confirms, with a number of its own and the new seed."""
        if not self._waiting:
            return None
        number, confirmation = self._waiting.popleft()
        self._given[number] = confirmation
        return replace(
            self._trials[confirmation.number],
            number=number,
            seed=confirmation.seed,
            status=Status.TRAINING,
            curve=(),
            outcome=None,
            alone=ALONE in self._chances.get(number, ()),
        )

    def rung(self, number: int, rung: Rung) -> bool:  # noqa: ARG002
        """Nothing stops a confirmation."""
        return True

    def ended(self, number: int, outcome: Outcome) -> None:
        """Remembers a confirmation before anything else happens; or gives it again, after what says nothing of it."""
        if why := second_chance(outcome, self._chances.get(number, ())):
            self._chances[number] = (*self._chances.get(number, ()), why)
            self._waiting.appendleft((number, self._given.pop(number)))
            return
        confirmation = replace(
            self._given.pop(number),
            status=outcome.status,
            reason=outcome.reason,
            seconds=outcome.seconds,
            facts=outcome.facts,
            finished=datetime.now(UTC),
        )
        if isinstance(outcome, Answered):
            confirmation = replace(confirmation, step=outcome.step, validation=outcome.validation, test=outcome.test)
        self._repository.confirm(self._name, confirmation)
        self._tell(TrialConfirmed(confirmation))
