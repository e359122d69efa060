"""The two sides between which trials travel: the ledger in the driver, and the workers that train.

An orchestrator carries trials from one to the other, and knows nothing of methods, samplers or databases.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from autopeft.trial import Outcome, Rung, Trial

STOPPED_EARLY = "not worth training on, compared with trials that cost no more"
"""The reason of an outcome where the ledger stopped the trial."""
OUT_OF_TIME = "the time of the search was over"
"""The reason of an outcome where a trial was to have ended by then."""
OUT_OF_MEMORY = "out of memory"
"""How the reason of an outcome begins where the worker's memory was full."""
DEVICE_PART = "device_part"
"""The fact of an outcome that tells which part of a device its trial was given; without it, it was the whole."""


class Ledger(Protocol):
    """Decides and remembers; lives in the driver, called from one thread only."""

    def next(self) -> Trial | None:
        """The next trial to train; None when there is none, and there will be no more unless one that is being trained
        has to be given again.
        """

    def rung(self, number: int, rung: Rung) -> bool:
        """Hears that a trial reached a rung, or goes on from there; says whether it goes on training."""

    def ended(self, number: int, outcome: Outcome) -> None:
        """Hears the outcome of a trial; called once for every trial that `next` gave, also when its worker died. May
        decide that the trial is given again by `next`, with the same number.
        """


class Worker(Protocol):
    """Trains one trial after another on a backbone that it loads once; lives in a worker process."""

    def train(self, trial: Trial) -> Iterator[Rung | Outcome]:
        """Yields a Rung whenever one is reached and, last of all, an Outcome. Faults of a trial become its Outcome.
        What was kept of a trial that was interrupted is gone on with: its last rung is yielded again, first of all.

        Closing the iterator early stops the trial (early stopping) and leaves the backbone as it was.
        """

    @property
    def facts(self) -> Mapping[str, Any]:
        """Where and with what it trains, for outcomes that it does not make itself."""

    @property
    def spent(self) -> bool:
        """Whether its process can train no more, as after most errors of a GPU; whoever carries trials ends it then."""
