"""What running out of memory teaches: how far predictions of memory fall short, and the limit that follows. Pure.

A trial that ran out could not have as much as the budget and its device allow, so predictions count for more from then
on: by the factor at which what was predicted of it would just break that limit. Whatever else may have filled the
device (other programs, other trials), nothing is trained any more that is predicted to need as much.
"""

from dataclasses import dataclass

from autopeft.searching.ledger import OUT_OF_MEMORY
from autopeft.trial import Outcome, Status


@dataclass(frozen=True)
class Correction:
    """What is known from the trials that ran out of memory."""

    factor: float
    """How many times what is predicted counts; never below 1."""
    ran_out: int
    """Bytes that were predicted of a trial that ran out, the fewest of several."""

    @property
    def limit(self) -> int:
        """The most bytes that may be predicted of a trial from now on."""
        return self.ran_out - 1


def corrected(known: Correction | None, predicted: int, allowed: float) -> Correction:
    """What is known after one more trial ran out, whose budget and device allowed so many bytes."""
    found = Correction(max(allowed / predicted, 1.0), predicted)
    if known is None:
        return found
    return Correction(max(known.factor, found.factor), min(known.ran_out, found.ran_out))


def ran_out_of_memory(outcome: Outcome) -> bool:
    """Whether a trial failed for lack of memory."""
    return outcome.status is Status.FAILED and outcome.reason.startswith(OUT_OF_MEMORY)
