"""Proposes candidates: Optuna by ask and tell, over any space, for any number of objectives.

The study lives in memory; the database is the only truth. After a resume the proposer is told again what the database
holds, takes up what is trained again, and goes on. Candidates that break a hard limit are told as constraint violations
and never become trials. A sampler either chooses a whole candidate or lets Optuna draw it; both become trials of the
study alike.
"""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from autopeft.errors import CannotAttach
from autopeft.objectives import Objective
from autopeft.searching.samplers import sampler_named
from autopeft.searching.samplers.parts.interface import Ground
from autopeft.space.candidate import Candidate, Value
from autopeft.space.parameters import Draws, Parameter, Recalled, label
from autopeft.space.space import Space
from autopeft.trial import Costs, Status, Trial

_MAXIMIZE, _MINIMIZE = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE


@dataclass(frozen=True)
class Proposal:
    """A candidate to consider, not yet a trial."""

    candidate: Candidate
    params: Mapping[str, Any]
    """The draws that made it."""


def _nothing_known(candidate: Candidate) -> Costs:
    raise CannotAttach(f"there is no backbone here to attach '{candidate.name}' to.")


class Proposer:
    """Proposes, and learns from what became of its proposals."""

    def __init__(
        self,
        space: Space,
        objectives: tuple[Objective, ...],
        sampler: str,
        seed: int,
        predict: Callable[[Candidate], Costs] = _nothing_known,
        limits: Mapping[str, float] = MappingProxyType({}),
        trivial: float | None = None,
        seconds: Callable[[Candidate, Costs], float] | None = None,
        spent: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """A sampler that goes by costs needs `predict`, and keeps `limits` by itself; `trivial` is the score that any
        candidate has to beat, where that is known.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._objectives = objectives
        self._sampler = sampler_named(
            sampler, Ground(space, objectives, predict, limits, seed, trivial, seconds, spent)
        )
        directions = [_MAXIMIZE if each.higher_is_better else _MINIMIZE for each in objectives]
        self.study = optuna.create_study(directions=directions, sampler=self._sampler.optuna)
        self._awaited: list[tuple[Mapping[str, Any], optuna.trial.Trial]] = []
        self._told: list[Trial] = []
        self._under_way: dict[int, Trial] = {}
        self._first = 0

    def begin(
        self,
        known_good: Sequence[Mapping[str, Any]],
        least: int = 0,
        tried: Container[Mapping[str, Any]] = (),
    ) -> None:
        """Proposes next those of the first few that were not tried before: as many as the sampler wants, and at
        `least` so many. All are made known to the sampler.
        """
        for params in known_good[: max(self._sampler.begins_with, least)]:
            if params not in tried:
                self.begin_with(params)
        self._sampler.consider(known_good)

    def begin_with(self, params: Mapping[str, Any]) -> None:
        """Proposes this next."""
        self._first += 1
        self.study.enqueue_trial(dict(params))

    def take_up(self, trial: Trial) -> None:
        """Awaits a trial that an earlier sitting left unfinished, like a proposal of this one."""
        self.begin_with(trial.params)
        self.propose()
        # Its own draws may be more than those that the space still makes.
        self._awaited[-1] = (trial.params, self._awaited[-1][1])

    def propose(self) -> Proposal:
        """The next candidate; answer it by `turn_away`, or by `tell` of the trial that it became."""
        if self._first:
            self._first -= 1
        elif chosen := self._sampler.choose(
            [*self._told, *self._under_way.values()], [asked.params for _, asked in self._awaited]
        ):
            self.study.enqueue_trial(dict(chosen))
        asked = self.study.ask()
        source = _Asked(asked)
        self._awaited.append((source.drawn, asked))
        return Proposal(self._space.draw(source), source.drawn)

    def turn_away(self, proposal: Proposal, excess: Mapping[str, float]) -> None:
        """A proposal breaks limits, each by this fraction of it (greater than 0)."""
        asked = self._answered(proposal.params)
        for limit, violation in excess.items():
            asked.set_constraint(limit, violation)
        self.study.tell(asked, state=TrialState.PRUNED)

    def keep(self, limits: Mapping[str, float]) -> None:
        """All limits that hold from now on."""
        self._sampler.keep(limits)

    def reach(self, trial: Trial) -> None:
        """A proposal is being trained and has reached a rung."""
        self._under_way[trial.number] = trial

    def tell(self, trial: Trial) -> None:
        """What became of a proposal."""
        asked = self._answered(trial.params)
        self._under_way.pop(trial.number, None)
        self._remember(trial)
        values = self._values(trial)
        self.study.tell(asked, values, state=TrialState.FAIL if values is None else TrialState.COMPLETE)

    def draws(self, trial: Trial) -> bool:
        """Whether the space still draws a trial of an earlier sitting as it was drawn then."""
        return self._drawn_again(trial) is not None

    def recall(self, trial: Trial) -> bool:
        """Learns from a trial of an earlier sitting, as if it had been proposed and told now; does not, and says so,
        where the space no longer draws it.
        """
        source = self._drawn_again(trial)
        if source is None:
            return False
        self._remember(trial)
        values = self._values(trial)
        self.study.add_trial(
            optuna.create_trial(
                state=TrialState.FAIL if values is None else TrialState.COMPLETE,
                values=values,
                params=source.drawn,
                distributions=source.distributions,
            )
        )
        return True

    def _answered(self, params: Mapping[str, Any]) -> optuna.trial.Trial:
        """What was asked for these draws, no longer awaited; of several that were drawn alike the first."""
        at = next(at for at, (drawn, _) in enumerate(self._awaited) if drawn == params)
        return self._awaited.pop(at)[1]

    def _drawn_again(self, trial: Trial) -> "_Remembered | None":
        """The draws of a trial, by the space of now; None where they are not its draws any more."""
        source = _Remembered(Recalled(trial.params))
        try:
            candidate = self._space.draw(source)
        except (KeyError, TypeError, ValueError):
            return None
        return source if _methods(candidate) == _methods(trial.candidate) else None

    def _remember(self, trial: Trial) -> None:
        """For samplers of our own; a lost trial is no failure of its candidate, and may be proposed again."""
        if trial.status is not Status.LOST:
            self._told.append(trial)

    def _values(self, trial: Trial) -> list[float] | None:
        """What the sampler learns; of a trial that was stopped early the score so far, of a failed or lost one
        nothing, nor of a score that is no number: Optuna's samplers do not look at trials that failed.
        """
        if trial.status.came_to_nothing:
            return None
        values = [trial.value(each.key) for each in self._objectives]
        return None if any(map(math.isnan, values)) else values


class _Asked:
    """Draws from an Optuna trial."""

    def __init__(self, trial: optuna.trial.Trial) -> None:
        self._trial = trial
        self.drawn: dict[str, Any] = {}

    def draw(self, name: str, parameter: Parameter) -> Value:
        if parameter.low is None or parameter.high is None:
            drawn: Any = self._trial.suggest_categorical(name, parameter.labels())
        elif parameter.whole:
            drawn = self._trial.suggest_int(name, int(parameter.low), int(parameter.high), log=parameter.log)
        else:
            drawn = self._trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)
        self.drawn[name] = drawn
        return parameter.value_of(drawn)


class _Remembered:
    """Draws from another source, and remembers labels and distributions; what is out of range is a ValueError."""

    def __init__(self, source: Draws) -> None:
        self._source = source
        self.drawn: dict[str, Any] = {}
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {}

    def draw(self, name: str, parameter: Parameter) -> Value:
        value = self._source.draw(name, parameter)
        if not parameter.holds(value):
            raise ValueError(f"{name} cannot be {value}")
        self.drawn[name] = label(value)
        self.distributions[name] = _distribution(parameter)
        return value


def _methods(candidate: Candidate) -> list[str]:
    return [part.method for part in candidate.parts]


def _distribution(parameter: Parameter) -> optuna.distributions.BaseDistribution:
    if parameter.low is None or parameter.high is None:
        return optuna.distributions.CategoricalDistribution(parameter.labels())
    if parameter.whole:
        return optuna.distributions.IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
    return optuna.distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def default_params(space: Space, kind: str) -> Mapping[str, Any]:
    """The draws that make a method or hybrid at all its defaults."""
    return drawn_params(space, {"method": kind})


def drawn_params(space: Space, draws: Mapping[str, Any]) -> Mapping[str, Any]:
    """All draws of the candidate that is made of these and of defaults."""
    source = _Remembered(Recalled(draws))
    space.draw(source)
    return source.drawn
