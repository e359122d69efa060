"""Trains in this process, one trial after another and without Ray: for debugging, for tests, and where one worker is
enough.
"""

import time
from collections.abc import Callable, Iterator

from autopeft.search.ledger import STOPPED_EARLY, Ledger, Worker
from autopeft.trial import Outcome, Rung, Status


def train_here(ledger: Ledger, new_worker: Callable[[], Worker]) -> None:
    """Trains whatever the ledger gives until it gives no more. Ctrl-C passes through, and the worker's backbone is as
    before.
    """
    worker = new_worker()
    while (trial := ledger.next()) is not None:
        began = time.perf_counter()
        items = worker.train(trial)
        ledger.ended(trial.number, _followed(ledger, trial.number, items, began))


def _followed(ledger: Ledger, number: int, items: Iterator[Rung | Outcome], began: float) -> Outcome:
    """Tells the ledger of every rung; the outcome is the worker's, or that the ledger stopped the trial."""
    for item in items:
        if isinstance(item, Outcome):
            return item
        if not ledger.rung(number, item):
            items.close()  # type: ignore[attr-defined]
            return Outcome(Status.STOPPED, STOPPED_EARLY, time.perf_counter() - began)
    raise AssertionError(f"the worker left trial {number} without an outcome")
