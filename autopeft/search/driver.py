"""The driver's side of a search: decides what is trained next, and remembers what comes back.

It joins the proposer, the predictor of costs and the database, and tells everything to one listener. Orchestrators call
it through the `Ledger` protocol, from one thread.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from autopeft.errors import AutopeftError, CannotAttach
from autopeft.events import Event, TrialBegan, TrialEnded, TrialReported, TurnedAway
from autopeft.plan import Plan
from autopeft.search.proposer import Proposer
from autopeft.search.stopping import goes_on
from autopeft.space.candidate import Candidate
from autopeft.storage.repository import Repository
from autopeft.trial import Costs, Outcome, Rung, SearchRecord, Trial

MOST_TURNED_AWAY_IN_A_ROW = 1000


class Driver:
    """The ledger of one sitting of a search."""

    def __init__(
        self,
        record: SearchRecord,
        limits: Mapping[str, int],
        proposer: Proposer,
        predict: Callable[[Candidate], Costs],
        repository: Repository,
        tell: Callable[[Event], None],
    ) -> None:
        self._name = record.name
        self._plan: Plan = record.plan
        self._limits = limits
        self._proposer = proposer
        self._predict = predict
        self._repository = repository
        self._tell = tell
        self._began = time.monotonic()
        self._earlier_seconds = float(record.facts.get("seconds", 0))
        self._facts = dict(record.facts)
        self._turned_away = Counter(record.turned_away)
        self._validation_rows = int(record.facts.get("validation_rows", 0))
        self._trials = {trial.number: trial for trial in record.trials if trial.outcome is not None}
        self._tickets: dict[int, int] = {}
        self._unfinished = deque(trial for trial in record.trials if trial.outcome is None)
        self._next_number = 1 + max((trial.number for trial in record.trials), default=0)
        self._given = len(record.trials) - len(self._unfinished)

    def next(self) -> Trial | None:
        """The next trial: first those that an earlier sitting left unfinished, then new ones."""
        if self._out_of_time() or (self._plan.trials is not None and self._given >= self._plan.trials):
            return None
        trial = self._again(self._unfinished.popleft()) if self._unfinished else self._new()
        if trial is None:
            return None
        self._given += 1
        self._trials[trial.number] = trial
        self._repository.record(self._name, trial)
        self._tell(TrialBegan(trial))
        return trial

    def rung(self, number: int, rung: Rung) -> bool:
        """Remembers a rung; says whether the trial is worth training on."""
        trial = self._trials[number]
        self._trials[number] = trial = replace(trial, curve=(*trial.curve, rung))
        self._repository.record(self._name, trial)
        self._tell(TrialReported(trial))
        return goes_on(trial, self._trials.values(), self._plan.objectives, self._validation_rows)

    def ended(self, number: int, outcome: Outcome) -> None:
        """Remembers an outcome before anything else happens, then teaches the proposer."""
        trial = replace(self._trials[number], status=outcome.status, outcome=outcome, finished=datetime.now(UTC))
        self._trials[number] = trial
        self._repository.record(self._name, trial)
        self._facts["seconds"] = self.seconds
        self._repository.update(self._name, facts=self._facts)
        if number in self._tickets:
            self._proposer.tell(self._tickets.pop(number), trial)
        else:
            self._proposer.recall(trial)
        self._tell(TrialEnded(trial))

    @property
    def seconds(self) -> float:
        """Wall-clock of the search so far, earlier sittings included."""
        return self._earlier_seconds + time.monotonic() - self._began

    def _out_of_time(self) -> bool:
        return self._plan.time is not None and self.seconds >= self._plan.time

    def _again(self, trial: Trial) -> Trial:
        return replace(trial, curve=(), started=datetime.now(UTC))

    def _new(self) -> Trial | None:
        for _ in range(MOST_TURNED_AWAY_IN_A_ROW):
            proposal = self._proposer.propose()
            try:
                costs = self._predict(proposal.candidate)
                excess = costs.excesses(self._limits)
            except CannotAttach:
                excess = {"cannot attach": 1.0}
            if not excess:
                number = self._next_number
                self._next_number += 1
                self._tickets[number] = proposal.ticket
                seed = self._plan.seed * 100_003 + number
                return Trial(number, proposal.candidate, costs, proposal.params, seed, started=datetime.now(UTC))
            self._proposer.turn_away(proposal.ticket, excess)
            worst = max(excess, key=lambda limit: excess[limit])
            self._turned_away[worst] += 1
            self._repository.update(self._name, turned_away=dict(self._turned_away))
            self._tell(TurnedAway(worst))
            if self._out_of_time():
                return None
        raise AutopeftError(
            f"{MOST_TURNED_AWAY_IN_A_ROW} candidates in a row broke the budget, the last one its limit on {worst}; "
            "give more, or a space with smaller settings."
        )
