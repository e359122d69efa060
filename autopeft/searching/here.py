"""Trains in this process, one trial after another and without Ray: for debugging, for tests, and where one worker is
enough. A trial that hangs hangs the search: nothing here can end it, and nothing here can go on where a GPU cannot.
"""

import time
from collections.abc import Callable

from autopeft.errors import AutopeftError
from autopeft.searching.ledger import STOPPED_EARLY, Ledger, Worker
from autopeft.trial import Outcome, Status, Trial


def train_here(ledger: Ledger, new_worker: Callable[[], Worker]) -> None:
    """Trains whatever the ledger gives until it gives no more. Ctrl-C passes through, and the worker's backbone is as
    before. Raises AutopeftError when an error of the GPU leaves this process unable to train.
    """
    worker = new_worker()
    while (trial := ledger.next()) is not None:
        began = time.perf_counter()
        outcome = _followed(ledger, trial, worker, began)
        ledger.ended(trial.number, outcome)
        if worker.spent:
            raise AutopeftError(
                f"after this error of trial {trial.number}, this process cannot use its GPU any more: "
                f"{outcome.reason.splitlines()[0]}. All outcomes are kept; `autopeft resume` goes on in a new process, "
                "and with workers (`--workers 1` or more) a search goes on by itself."
            )


def _followed(ledger: Ledger, trial: Trial, worker: Worker, began: float) -> Outcome:
    """Tells the ledger of every rung; the outcome is the worker's, or that the ledger stopped the trial."""
    items = worker.train(trial)
    for item in items:
        if isinstance(item, Outcome):
            return item
        if not ledger.rung(trial.number, item):
            items.close()  # type: ignore[attr-defined]
            return Outcome(Status.STOPPED, STOPPED_EARLY, time.perf_counter() - began, facts=worker.facts)
    raise AssertionError(f"the worker left trial {trial.number} without an outcome")
