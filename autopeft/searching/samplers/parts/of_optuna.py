"""Optuna's samplers as ours: they choose nothing themselves, and draw in the study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.samplers import BaseSampler

from autopeft.searching.samplers.parts.interface import SPANNING
from autopeft.trial import Trial


@dataclass(frozen=True)
class OfOptuna:
    """Chooses nothing itself."""

    optuna: BaseSampler
    begins_with: int = SPANNING
    """These samplers know nothing of the front before."""

    def choose(self, told: Sequence[Trial], pending: Sequence[Mapping[str, Any]]) -> None:  # noqa: ARG002
        return None

    def consider(self, known_good: Sequence[Mapping[str, Any]]) -> None:
        """What a search begins with is all that Optuna learns of them."""

    def keep(self, limits: Mapping[str, float]) -> None:
        """Optuna learns limits from what was turned away."""
