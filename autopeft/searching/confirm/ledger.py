"""The driver's side of confirming a front: what is trained next, and what came back of it."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from autopeft.events import Confirming, Event, TrialConfirmed
from autopeft.searching.again import ALONE, second_chance
from autopeft.searching.confirm.lacking import outstanding
from autopeft.searching.confirm.worker import Answered
from autopeft.storage.repository import Repository
from autopeft.trial import Confirmation, Outcome, Rung, SearchRecord, Status, Trial


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
