"""A worker process of Ray, which trains one trial after another. Runs there, and nowhere else."""

import contextlib
import faulthandler
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray import tune

from autopeft.searching.ledger import Worker
from autopeft.searching.shares import Shares
from autopeft.trial import Outcome


@dataclass(frozen=True)
class Said:
    """What a worker says in one step; Ray Tune would take a mapping apart."""

    item: Any
    """A rung, or the outcome."""
    facts: Mapping[str, Any]


class Actor(tune.Trainable):
    """A worker process: each step is one rung of the trial, or its outcome."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], new_worker: Callable[[], Worker], shares: Shares, timeout: float | None
    ) -> None:
        self._items: Iterator[Any] = iter(())
        self._timeout = timeout
        self._fault = ""
        self._spent = False
        try:
            _set_threads(shares.of(config["trial"]).threads)
            self._worker = new_worker()
        except Exception as error:
            self._fault = f"{type(error).__name__}: {error}"
        else:
            self._items = self._worker.train(config["trial"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Raises nothing: after an error between two trials Ray Tune would keep an idle worker, and its part of a GPU,
        for ever. The next step raises it.
        """
        try:
            self.cleanup()
            if not self._fault:
                self._items = self._worker.train(new_config["trial"])
        except Exception as error:
            self._items = _raising(error)
        return True

    def step(self) -> dict[str, Any]:
        if self._fault:
            return {"fault": self._fault, "done": True}
        if self._spent:
            # Ray Tune would keep a worker that is done; one that dies it forgets.
            os._exit(1)
        with _ended_after(self._timeout):
            item = next(self._items)
        done = isinstance(item, Outcome)
        self._spent = done and self._worker.spent
        return {"said": Said(item, self._worker.facts), "done": done and not self._spent}

    def cleanup(self) -> None:
        if close := getattr(self._items, "close", None):
            close()


def _raising(error: Exception) -> Iterator[Any]:
    yield from ()
    raise error


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


@contextlib.contextmanager
def _ended_after(seconds: float | None) -> Iterator[None]:
    """Ends this process when the block takes longer, whatever hangs there: the clock is a thread without Python."""
    if seconds is not None:
        faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
