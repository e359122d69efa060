"""What a sampler is: whatever decides what is proposed next."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.samplers import BaseSampler

from autopeft.objectives import Objective
from autopeft.space.candidate import Candidate
from autopeft.space.space import Space
from autopeft.trial import Costs, Trial

SPANNING = 8
"""Known good candidates: enough to span the front."""


@dataclass(frozen=True)
class Ground:
    """What a sampler may know of the search that it proposes for."""

    space: Space
    objectives: tuple[Objective, ...]
    predict: Callable[[Candidate], Costs]
    limits: Mapping[str, float]
    seed: int
    trivial: float | None = None
    """The score that any candidate has to beat."""
    seconds: Callable[[Candidate, Costs], float] | None = None
    """What training takes, as far as that is known before; None where nobody knows."""
    spent: Callable[[], float] = lambda: 0.0
    """The part of the search's trials or time that is spent."""


class Sampler(Protocol):
    """Chooses whole candidates, or leaves them to Optuna, draw by draw. Seeded: the same twice gives the same."""

    @property
    def optuna(self) -> BaseSampler:
        """Draws in the study what `choose` leaves open."""

    @property
    def begins_with(self) -> int:
        """Known good candidates that a search begins with, before the sampler chooses."""

    def choose(self, told: Sequence[Trial], pending: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """The draws of the next candidate, or None: Optuna's sampler decides.

        `told` are the trials whose outcome is known and those that have reached a rung so far, `pending` the draws of
        proposals without an outcome yet.
        """

    def consider(self, known_good: Sequence[Mapping[str, Any]]) -> None:
        """The draws of candidates that are known to be good elsewhere; a sampler may make nothing of them."""

    def keep(self, limits: Mapping[str, float]) -> None:
        """All limits on costs that hold from now on; a sampler may leave keeping them to whoever turns away."""
