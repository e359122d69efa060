"""What happens during a search, as a stream of facts that a terminal, a service or a notebook can read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autopeft.trial import Baseline, Confirmation, SearchRecord, Trial


@dataclass(frozen=True)
class Doing:
    """A long step before the first trial begins, such as loading the backbone."""

    what: str


IMPORTING = Doing("importing libraries")
"""Said before torch and all that comes with it is imported, which takes seconds."""


@dataclass(frozen=True)
class Begun:
    """Everything is prepared; trials follow. The record holds the trials of earlier sittings when resumed."""

    record: SearchRecord


@dataclass(frozen=True)
class BaselinesKnown:
    """The reference points were measured."""

    baselines: Mapping[str, Baseline]


@dataclass(frozen=True)
class TrialBegan:
    """A trial was handed to a worker."""

    trial: Trial


@dataclass(frozen=True)
class TrialReported:
    """A trial reached a rung; it is the last of `trial.curve`."""

    trial: Trial


@dataclass(frozen=True)
class TrialEnded:
    """A trial finished, was stopped early, failed or was lost: `trial.outcome` tells."""

    trial: Trial


@dataclass(frozen=True)
class GivenAgain:
    """What became of a trial says nothing of its candidate; it will be trained once more."""

    trial: Trial
    why: str


@dataclass(frozen=True)
class TurnedAway:
    """A candidate was not trained because its predicted costs break this limit of the budget."""

    limit: str


@dataclass(frozen=True)
class Confirming:
    """No more trials follow; members of the front are trained again, this many times in all."""

    trainings: int


@dataclass(frozen=True)
class TrialConfirmed:
    """A member of the front was trained again, or failed to be."""

    confirmation: Confirmation


@dataclass(frozen=True)
class Ended:
    """The search is over, or was interrupted and can be resumed."""

    record: SearchRecord
    interrupted: bool = False


Event = (
    Doing
    | Begun
    | BaselinesKnown
    | TrialBegan
    | TrialReported
    | TrialEnded
    | GivenAgain
    | TurnedAway
    | Confirming
    | TrialConfirmed
    | Ended
)


def saying(tell: Callable[[Event], None]) -> Callable[[str], None]:
    """Tells each long step to those who hear of events."""
    return lambda what: tell(Doing(what))
