"""Who runs a search of the queue: a process at a time, for as long as it gives signs of life.

A process that is given a search has it on a lease, which it renews. Where the lease ends without a word, somebody
killed it, and the search waits again; so neither the end of a service nor that of a process loses one. Whoever lost its
lease meanwhile hears of it at its next sign of life, and has to stop; `claims.py` keeps two apart even then.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from autopeft.plan import Plan
from autopeft.storage.models import plan_of
from autopeft.storage.opened import Opened
from autopeft.storage.queue import FAILED, RUNNING, STATE, WAITING, Errand, say
from autopeft.storage.service import QueueRow

LEASE = timedelta(seconds=30)
MOST_ATTEMPTS = 3
"""Processes in a row that may end without a word before any trial has ended."""
_DIED = f"its process ended {MOST_ATTEMPTS} times without a word; what it printed stands in its log."


@dataclass(frozen=True)
class Held:
    """A search that a process was given."""

    id: int
    name: str
    owner: str
    plan: Plan = field(repr=False)
    errand: Errand = field(default_factory=Errand)


class Holding:
    """The same queue as those see it who run searches. All methods raise AutopeftError."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def take(self, host: str, at_once: int) -> Held | None:
        """The next search, for a process that is started now; None where none waits, or enough run on this host."""
        now = datetime.now(UTC)

        def work(session: Session) -> Held | None:
            # Locked all together, so that two services do not count past each other.
            open_rows = select(QueueRow).where(QueueRow.state.in_((RUNNING, WAITING))).with_for_update()
            rows = sorted(session.scalars(open_rows), key=lambda row: row.position)
            for row in rows:
                if row.state == RUNNING and (row.lease is None or row.lease < now):
                    _let_go(session, row)
            running = sum(row.state == RUNNING and row.host == host for row in rows)
            first = next((row for row in rows if row.state == WAITING), None)
            if first is None or running >= at_once:
                return None
            first.state, first.owner, first.host, first.lease = RUNNING, secrets.token_hex(16), host, now + LEASE
            first.attempts += 1
            first.asked = ""
            say(session, first.id, STATE, {"state": RUNNING})
            return _held(first)

        return self._opened.write(work)

    def of(self, id: int, owner: str) -> Held | None:
        """What a process was given, as it reads it itself; None where it has lost it."""
        with self._opened.reading() as session:
            row = session.get(QueueRow, id)
            return _held(row) if row is not None and row.owner == owner else None

    def beat(self, held: Held) -> str | None:
        """A sign of life; tells what the search is to become, if anything, and None to whoever has lost it."""

        def work(session: Session) -> str | None:
            if (row := _own(session, held)) is None:
                return None
            row.lease = datetime.now(UTC) + LEASE
            return row.asked

        return self._opened.write(work)

    def tell(self, held: Held, kind: str, told: Mapping[str, Any], progress: bool = False) -> None:
        """Remembers what happened; by `progress`, a process may end without a word as often as at first."""

        def work(session: Session) -> None:
            if (row := _own(session, held)) is not None:
                row.attempts = 0 if progress else row.attempts
                say(session, row.id, kind, told)

        self._opened.write(work)

    def finish(self, held: Held, state: str, reason: str = "") -> None:
        """The process ends, and its search has this state; nothing changes where it has lost it."""

        def work(session: Session) -> None:
            if (row := _own(session, held)) is not None:
                row.attempts = 0
                _leave(session, row, state, reason)

        self._opened.write(work)

    def give_back(self, held: Held) -> None:
        """No process could be started: the search waits as it did before."""

        def work(session: Session) -> None:
            if (row := _own(session, held)) is not None:
                row.attempts -= 1
                _leave(session, row, row.asked or WAITING)

        self._opened.write(work)

    def died(self, held: Held) -> None:
        """The process ended; where it did so without a word, its search waits again."""

        def work(session: Session) -> None:
            if (row := _own(session, held)) is not None:
                _let_go(session, row)

        self._opened.write(work)


def _held(row: QueueRow) -> Held:
    return Held(row.id, row.name, row.owner, plan_of(row.plan), Errand(**row.errand))


def _own(session: Session, held: Held) -> QueueRow | None:
    mine = (QueueRow.id == held.id, QueueRow.owner == held.owner, QueueRow.state == RUNNING)
    return session.scalar(select(QueueRow).where(*mine).with_for_update())


def _let_go(session: Session, row: QueueRow) -> None:
    if row.asked:
        _leave(session, row, row.asked)
    elif row.attempts < MOST_ATTEMPTS:
        _leave(session, row, WAITING)
    else:
        _leave(session, row, FAILED, _DIED)


def _leave(session: Session, row: QueueRow, state: str, reason: str = "") -> None:
    row.state, row.reason, row.owner, row.lease, row.asked = state, reason, "", None, ""
    say(session, row.id, STATE, {"state": state} | ({"reason": reason} if reason else {}))
