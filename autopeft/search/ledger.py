"""The two sides between which trials travel: the ledger in the driver, and the workers that train.

An orchestrator carries trials from one to the other, and knows nothing of methods, samplers or databases.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from autopeft.trial import Outcome, Rung, Trial

STOPPED_EARLY = "not worth training on, compared with trials that cost no more"
"""The reason of an outcome where the ledger stopped the trial."""
OUT_OF_MEMORY = "out of memory"
"""How the reason of an outcome begins where the worker's memory was full."""


class Ledger(Protocol):
    """Decides and remembers; lives in the driver, called from one thread only."""

    def next(self) -> Trial | None:
        """The next trial to train; None when there will be no more."""

    def rung(self, number: int, rung: Rung) -> bool:
        """Hears that a trial reached a rung; says whether it goes on training."""

    def ended(self, number: int, outcome: Outcome) -> None:
        """Hears the outcome of a trial; called once for every trial that `next` gave, also when its worker died."""


class Worker(Protocol):
    """Trains one trial after another on a backbone that it loads once; lives in a worker process."""

    def train(self, trial: Trial) -> Iterator[Rung | Outcome]:
        """Yields a Rung whenever one is reached and, last of all, an Outcome. Faults of a trial become its Outcome.

        Closing the iterator early stops the trial (early stopping) and leaves the backbone as it was.
        """

    @property
    def facts(self) -> Mapping[str, Any]:
        """Where and with what it trains, for outcomes that it does not make itself."""
