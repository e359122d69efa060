"""The driver's side of training one trial once more, as it was trained before, for weights that were not kept."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from autopeft.errors import AutopeftError
from autopeft.events import Event, GivenAgain, TrialBegan, TrialEnded, TrialReported
from autopeft.searching.again import ALONE, second_chance
from autopeft.storage.repository import Repository
from autopeft.trial import Outcome, Rung, Status, Trial


class OnceMore:
    """The ledger of one trial. What is remembered of it changes when it has finished, and not before."""

    def __init__(self, search: str, trial: Trial, repository: Repository, tell: Callable[[Event], None]) -> None:
        self._search = search
        self._trial = replace(trial, status=Status.TRAINING, curve=(), outcome=None, finished=None)
        self._repository = repository
        self._tell = tell
        self._chances: tuple[str, ...] = ()
        self._waits = True

    def next(self) -> Trial | None:
        if not self._waits:
            return None
        self._waits = False
        self._trial = replace(self._trial, curve=(), alone=ALONE in self._chances, started=datetime.now(UTC))
        self._tell(TrialBegan(self._trial))
        return self._trial

    def rung(self, number: int, rung: Rung) -> bool:  # noqa: ARG002
        """Nothing stops it: it is wanted."""
        self._trial = replace(self._trial, curve=(*self._trial.curve, rung))
        self._tell(TrialReported(self._trial))
        return True

    def ended(self, number: int, outcome: Outcome) -> None:
        """Remembers it, scores included: on another machine they may differ a little from what they were. Raises
        AutopeftError where nothing came of it.
        """
        if why := second_chance(outcome, self._chances):
            self._chances, self._waits = (*self._chances, why), True
            self._tell(GivenAgain(self._trial, outcome.reason))
            return
        if outcome.status is not Status.FINISHED:
            raise AutopeftError(f"trial {number} of search '{self._search}' {outcome.status}: {outcome.reason}.")
        trial = replace(self._trial, status=outcome.status, outcome=outcome, finished=datetime.now(UTC), alone=False)
        self._repository.record(self._search, trial)
        self._tell(TrialEnded(trial))
