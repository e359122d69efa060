"""What makes a worker, on its way to another process: the modules of the user's own that it is made of go with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from autopeft.searching.ledger import Worker
from autopeft.tasks.own import Code, codes


@dataclass(frozen=True)
class Carried:
    """Calling it makes a worker."""

    code: tuple[Code, ...]
    pickled: bytes

    def __call__(self) -> Worker:
        for each in self.code:
            each.define()
        new_worker: Any = ray.cloudpickle.loads(self.pickled)
        worker: Worker = new_worker()
        return worker


def carried(new_worker: Callable[[], Worker]) -> Callable[[], Worker]:
    """The same for another process; as it is where nothing of the user's own is known here."""
    if not (code := codes()):
        return new_worker
    pickled: bytes = ray.cloudpickle.dumps(new_worker)  # type: ignore[no-untyped-call]
    return Carried(code, pickled)
