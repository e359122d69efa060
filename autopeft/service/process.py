"""The process of one running search: `python -m autopeft.service.process`, which reads what to do from its stdin.

It gives signs of life and tells what happens by the database alone, so that it outlives the service that started it. It
runs the same code as `autopeft search`, `resume` and `confirm`. By SIGTERM its search waits again; where users ask for
another state, the process hears of it at its next sign of life and interrupts itself, as by Ctrl-C.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.events import Event
from autopeft.plan import Plan
from autopeft.reports import telling
from autopeft.reports.failure import failure
from autopeft.reports.standing import Standing
from autopeft.searching.confirm.lacking import outstanding
from autopeft.searching.search import open_search, resume, search
from autopeft.service.code import MAY_BE_CODE, code_of, trusted_of
from autopeft.storage.holding import LEASE, Held, Holding
from autopeft.storage.opened import Opened
from autopeft.storage.queue import ENDED, FAILED, WAITING
from autopeft.storage.repository import Repository
from autopeft.trial import SearchRecord

_BEAT = 1.0
"""Seconds between signs of life."""
_PATIENCE = 60.0
"""Seconds until a search that does not end is interrupted once more."""


class _Heart(threading.Thread):
    """Gives signs of life, and interrupts the process when its search is to become something else."""

    def __init__(self, holding: Holding, held: Held) -> None:
        super().__init__(daemon=True)
        self._holding, self._held = holding, held
        self._over = threading.Event()
        self.asked = ""

    def run(self) -> None:
        heard, interrupted = time.monotonic(), -_PATIENCE
        while not self._over.wait(_BEAT):
            lost = time.monotonic() - heard > LEASE.total_seconds()
            with suppress(AutopeftError):  # The database may come back until the lease ends.
                asked = self._holding.beat(self._held)
                heard = time.monotonic()
                lost, self.asked = asked is None, asked or ""
            if (lost or self.asked) and time.monotonic() - interrupted > _PATIENCE:
                interrupted = time.monotonic()
                os.kill(os.getpid(), signal.SIGINT)

    def stop(self) -> None:
        self._over.set()
        self.join()


class _Teller:
    """Hears the events of the search."""

    def __init__(self, holding: Holding, held: Held) -> None:
        self._holding, self._held = holding, held
        self._standing = Standing(time.monotonic())

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        self._standing = self._standing.after(event, now)
        if (said := telling.told(event, self._standing, now)) is not None:
            kind, told = said
            print(
                f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {self._held.name} {kind}", *told["lines"], sep="  ", flush=True
            )
            self._holding.tell(self._held, kind, told, progress=kind == telling.ENDED)


def main() -> None:
    given = json.load(sys.stdin)
    # Whoever started this may have had the terminal's signals ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    opened = Opened(given["resources"]["storage"])
    holding = Holding(opened)
    held = holding.of(given["id"], given["owner"])
    if held is None:
        return
    heart = _Heart(holding, held)
    heart.start()
    state, reason = ENDED, ""
    try:
        record = _run(held, given["resources"], given["trusted"], _Teller(holding, held))
        if reason := failure(record, "confirm" if held.errand.seeds else "resume"):
            state = FAILED
    except KeyboardInterrupt:
        state = heart.asked or WAITING
    except AutopeftError as error:
        state, reason = FAILED, str(error)
    except Exception as error:
        traceback.print_exc()
        state, reason = FAILED, f"a defect of autopeft's: {type(error).__name__}; its log tells more."
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    heart.stop()
    holding.finish(held, state, reason)
    opened.close()


def _interrupt(_: int, __: object) -> None:
    raise KeyboardInterrupt


def _run(held: Held, resources: dict[str, Any], trusted: Mapping[str, Any], tell: _Teller) -> SearchRecord:
    """Does what is left of the errand; a process before this one may have done a part of it."""
    with Repository(resources["storage"]) as repository:
        if held.name not in repository.names():
            _require_trusted(held.plan, trusted)
            return search(held.plan, name=held.name, on_event=tell, **resources).record
        record = repository.load(held.name)
    own = _named_again(record, trusted)
    if held.errand.seeds is not None:
        opened = open_search(held.name, resources["storage"], resources["folder"])
        return opened.confirm(held.errand.seeds, on_event=tell, **own, **resources).record
    if record.ended is not None and _is_done(record, held.errand.trials, held.errand.time):
        return record
    more = {"trials": held.errand.trials, "time": held.errand.time}
    return resume(held.name, on_event=tell, **more, **own, **resources).record  # type: ignore[arg-type]


def _is_done(record: SearchRecord, trials: int | None, seconds: str | float | None) -> bool:
    """Whether a search that had ended has all that was asked for."""
    if seconds is None and trials is None:
        return not outstanding(record, record.plan.confirm)
    return seconds is None and trials is not None and len(record.trials) >= trials


def _require_trusted(plan: Plan, trusted: Mapping[str, Any]) -> None:
    """Raises AutopeftError for code that an operator trusted once, and this one does not."""
    untrusted = {*code_of(plan).values()} - {*trusted["code"]}
    if untrusted or (plan.trust_remote_code and not trusted["remote"]):
        raise AutopeftError("the plan names code that the operator of this service does not trust any more.")


def _named_again(record: SearchRecord, trusted: Mapping[str, Any]) -> dict[str, Any]:
    """Code that the search is made of, as far as the operator of the service trusts it."""
    own = trusted_of(record.plan, trusted["code"], MAY_BE_CODE)
    return own | {"trust_remote_code": trusted["remote"]}


if __name__ == "__main__":
    main()
