"""The driver's side of a search: decides what is trained next, and remembers what comes back.

It joins the finder of candidates and the database, and tells everything to one listener. Orchestrators call it through
the `Ledger` protocol, from one thread.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.events import Event, GivenAgain, TrialBegan, TrialEnded, TrialReported, TurnedAway
from autopeft.plan import Plan
from autopeft.searching.again import ALONE, second_chance
from autopeft.searching.correction import Correction, corrected, ran_out_of_memory
from autopeft.searching.finder import Finder
from autopeft.searching.ledger import DEVICE_PART, OUT_OF_TIME
from autopeft.searching.proposer import Proposal
from autopeft.searching.stopping import Stopping
from autopeft.sizes import show_bytes
from autopeft.space.candidate import Candidate
from autopeft.storage.repository import Repository
from autopeft.trial import Costs, Outcome, Rung, SearchRecord, Status, Trial

MOST_TURNED_AWAY_IN_A_ROW = 1000
MOST_TOO_LONG_IN_A_ROW = 8
"""Candidates that cannot reach a rung in the time that is left, before nothing more is begun."""
TIME = "time"
"""The limit that these break."""
SecondsToRung = Callable[[Candidate, Costs], float | None]
"""Seconds of a worker until a candidate reaches its first rung; None where nobody knows."""
NEEDS_TOO_MUCH = "not trained again: as predicted, it breaks the limit on memory that holds since trials ran out of it"
"""The reason of an outcome where an earlier sitting left a trial unfinished, and trials like it ran out of memory."""


class Driver:
    """The ledger of one sitting of a search."""

    def __init__(
        self,
        record: SearchRecord,
        finder: Finder,
        repository: Repository,
        tell: Callable[[Event], None],
        take_away: Callable[[Trial], None] = lambda _: None,
        learn: Callable[[Trial], None] = lambda _: None,
        seconds_to_rung: SecondsToRung = lambda *_: None,
        began: float | None = None,
        reserve: float = 0.0,
    ) -> None:
        """The finder awaits the trials of `record` that are unfinished. `take_away` hears of each trial that has
        ended, and removes files that are not kept; `learn` hears how long each took that has ended. `seconds_to_rung`
        predicts when a candidate will have reached its first rung. The sitting `began` at this moment of
        `time.monotonic`, by default now. Of the plan's time, `reserve` seconds are for what comes after the trials.
        """
        self._name = record.name
        self._plan: Plan = record.plan
        self._time = None if record.plan.time is None else record.plan.time - reserve
        self._stopping = Stopping(record.objectives, record.trivial)
        self._expected: deque[Costs] = deque()
        self._finder = finder
        self._repository = repository
        self._tell = tell
        self._began = time.monotonic() if began is None else began
        self._earlier_seconds = float(record.facts.get("seconds", 0))
        self._facts = dict(record.facts)
        self._turned_away = Counter(record.turned_away)
        self._trials = {trial.number: trial for trial in record.trials if trial.outcome is not None}
        for trial in self._trials.values():
            self._stopping.learn(trial)
        self._take_away = take_away
        self._learn = learn
        self._seconds_to_rung = seconds_to_rung
        self._unfinished = deque(trial for trial in record.trials if trial.outcome is None)
        self._next_number = 1 + max((trial.number for trial in record.trials), default=0)
        self._given = len(record.trials) - len(self._unfinished)
        self._chances = {int(number): tuple(had) for number, had in record.facts.get("given_again", {}).items()}
        self._correction: Correction | None = None
        if known := record.facts.get("memory_correction"):
            self._correct(Correction(**known))

    def expect(self, costs: Costs) -> None:
        """What candidates may cost, from any thread: the front is wanted up to there."""
        self._expected.append(costs)

    def next(self) -> Trial | None:
        """The next trial: first those to be given again and those that an earlier sitting left unfinished, then new
        ones. None is begun, or gone on with, that cannot reach a rung in the time that is left.
        """
        while not self.is_over and self._more():
            if self._unfinished:
                trial = self._again(self._unfinished.popleft())
                if not self._in_time(trial.candidate, trial.predicted):
                    continue
            elif (new := self._new()) is not None:
                trial = new
            else:
                return None
            self._given += 1
            self._trials[trial.number] = trial
            if self._correction is not None and trial.predicted.memory > self._correction.limit:
                self.ended(trial.number, Outcome(Status.FAILED, NEEDS_TOO_MUCH))
                continue
            self._repository.record(self._name, trial)
            self._tell(TrialBegan(trial))
            if self._more() and not self._unfinished:
                self._finder.go_ahead()
            left = self._left()
            return trial if left is None else replace(trial, until=time.time() + left)
        return None

    def rung(self, number: int, rung: Rung) -> bool:
        """Remembers a rung; says whether the trial is worth training on. One that was begun anew, or goes on from an
        earlier rung, has not reached those that it had reached before.
        """
        trial = self._trials[number]
        before = tuple(each for each in trial.curve if each.step < rung.step)
        self._trials[number] = trial = replace(trial, curve=(*before, rung))
        self._repository.record(self._name, trial)
        self.remember_time()
        self._finder.reach(trial)
        self._tell(TrialReported(trial))
        while self._expected:
            self._stopping.expect(self._expected.popleft())
        self._stopping.learn(trial)
        return self._stopping.goes_on(trial)

    def ended(self, number: int, outcome: Outcome) -> None:
        """Remembers an outcome before anything else happens, then teaches the proposer; or gives the trial again."""
        if not self.is_over and (why := second_chance(outcome, self._chances.get(number, ()))):
            self._give_again(number, why, outcome.reason)
            return
        if outcome.reason == OUT_OF_TIME and not self._trials[number].curve:
            # It has reached nothing, and nobody learns of it: whoever gives the search more time trains it then.
            self._set_aside(number)
            return
        trial = self._trials[number]
        if trial.curve and outcome.seconds < trial.curve[-1].seconds:
            # Whoever ended it knows only what it took since it went on.
            outcome = replace(outcome, seconds=trial.curve[-1].seconds)
        trial = replace(trial, status=outcome.status, outcome=outcome, finished=datetime.now(UTC))
        self._trials[number] = trial
        self._stopping.learn(trial)
        self._repository.record(self._name, trial)
        self._facts["seconds"] = self.seconds
        if ran_out_of_memory(outcome):
            predicted, budget = trial.predicted.memory, self._plan.budget.memory
            allowed = min(budget or math.inf, _allowed(outcome.facts, predicted))
            self._correct(corrected(self._correction, predicted, allowed))
        self._repository.update(self._name, facts=self._facts)
        self._take_away(trial)
        self._learn(trial)
        self._finder.tell(trial)
        self._tell(TrialEnded(trial))

    def remember(self, fact: str, value: Any) -> None:
        """A fact of the search, from any thread; it is written with what is written next."""
        self._facts[fact] = value

    def remember_time(self) -> None:
        """A sitting that is interrupted or killed before a trial ends takes time, too."""
        self._facts["seconds"] = self.seconds
        self._repository.update(self._name, facts=self._facts)

    @property
    def seconds(self) -> float:
        """Wall-clock of the search so far, earlier sittings included."""
        return self._earlier_seconds + time.monotonic() - self._began

    @property
    def spent(self) -> float:
        """The part of the plan's trials or of its time that is spent, whichever is more."""
        trials, time = self._plan.trials, self._time
        return min(max(self._given / trials if trials else 0.0, self.seconds / time if time else 0.0), 1.0)

    @property
    def is_over(self) -> bool:
        """Whether the plan's time is."""
        return self._time is not None and self.seconds >= self._time

    def _left(self) -> float | None:
        """Seconds until the search is to end; None where nothing limits them."""
        return None if self._time is None else self._time - self.seconds

    def _in_time(self, candidate: Candidate, costs: Costs) -> bool:
        """Whether a candidate can reach a rung in the time that is left, as far as anybody knows."""
        if (left := self._left()) is None:
            return True
        needed = self._seconds_to_rung(candidate, costs)
        return needed is None or needed <= left

    def _more(self) -> bool:
        return self._plan.trials is None or self._given < self._plan.trials

    def _again(self, trial: Trial) -> Trial:
        alone = ALONE in self._chances.get(trial.number, ())
        return replace(trial, started=datetime.now(UTC), alone=alone)

    def _give_again(self, number: int, why: str, reason: str) -> None:
        """Remembers that the trial had this chance, so that a resumed search gives it no third time."""
        self._chances[number] = (*self._chances.get(number, ()), why)
        self._facts["given_again"] = {str(each): list(had) for each, had in self._chances.items()}
        self._facts["seconds"] = self.seconds
        trial = self._trials[number]
        self._set_aside(number)
        self._unfinished.appendleft(trial)
        self._tell(GivenAgain(trial, reason))

    def _set_aside(self, number: int) -> None:
        """It has not ended, and may be given again: it goes on from its last rung then."""
        del self._trials[number]
        self._repository.update(self._name, facts=self._facts)
        self._given -= 1

    def _correct(self, correction: Correction) -> None:
        """Predictions of memory count for so much more from now on, for trials that were begun earlier, too."""
        self._correction = correction
        self._facts["memory_correction"] = asdict(correction)
        self._finder.tighten({"memory": correction.limit})

    def _new(self) -> Trial | None:
        """None where the time is over, or too short for whatever is proposed."""
        for _ in range(MOST_TOO_LONG_IN_A_ROW):
            if self.is_over or (found := self._found()) is None:
                return None
            proposal, costs = found
            if self._in_time(proposal.candidate, costs):
                number = self._next_number
                self._next_number += 1
                seed = self._plan.seed * 100_003 + number
                return Trial(number, proposal.candidate, costs, proposal.params, seed, started=datetime.now(UTC))
            self._turn_away(TIME)
        return None

    def _found(self) -> tuple[Proposal, Costs] | None:
        """What breaks no limit on costs; None where the time is over."""
        for seen in islice(self._finder.find(), MOST_TURNED_AWAY_IN_A_ROW):
            if seen.costs is not None and not seen.excess:
                return seen.proposal, seen.costs
            worst = max(seen.excess, key=lambda limit: seen.excess[limit])
            self._turn_away(worst)
            if self.is_over:
                return None
        lowered = ""
        if worst == "memory" and self._correction is not None:
            lowered = f" ({show_bytes(self._correction.limit)} since trials ran out of it)"
        raise AutopeftError(
            f"{MOST_TURNED_AWAY_IN_A_ROW} candidates in a row broke the budget, the last one its limit on {worst}"
            f"{lowered}; give more, or a space with smaller settings."
        )

    def _turn_away(self, limit: str) -> None:
        self._turned_away[limit] += 1
        self._repository.update(self._name, turned_away=dict(self._turned_away))
        self._tell(TurnedAway(limit))


def _allowed(facts: Mapping[str, Any], predicted: int) -> float:
    """Bytes that a trial could have had on its device, as far as its worker knew."""
    device: float = facts.get("device_memory", predicted)
    return float(facts.get("memory_allowed", device * facts.get(DEVICE_PART, 1.0)))
