"""The queue of the service as its users see it: searches wait, run, and end; they are stopped, gone on with, moved.

States change in single transactions, each with an event, so that whoever follows a search by its events misses none.
Who runs a search is in `holding.py`. All methods raise AutopeftError.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from autopeft.errors import AutopeftError, unknown_search
from autopeft.plan import Plan
from autopeft.storage.models import SearchRow, plain_plan, plan_of
from autopeft.storage.opened import Opened
from autopeft.storage.repository import NameTaken
from autopeft.storage.service import EventRow, QueueRow

WAITING, RUNNING, STOPPED, ENDED, FAILED = STATES = ("waiting", "running", "stopped", "ended", "failed")
STATE = "state"
"""The kind of an event that tells a new state; all others come from the search itself."""


@dataclass(frozen=True)
class Errand:
    """What is to be done of a search: all that its plan says is left, or what is given here."""

    trials: int | None = None
    """Go on until there are so many."""
    time: str | float | None = None
    """Go on until it took so long in all."""
    seeds: int | None = None
    """Train the front again with so many seeds; nothing is searched then."""


@dataclass(frozen=True)
class Entry:
    """One search of the queue."""

    id: int
    name: str
    state: str
    plan: Plan = field(repr=False)
    errand: Errand
    begun_by: str
    created: datetime
    asked: str = ""
    """What it is to become; empty where nothing is asked."""
    reason: str = ""
    """Why it failed."""
    place: int | None = None
    """Of those that wait, from 1."""


@dataclass(frozen=True)
class Happened:
    """One event of a search."""

    number: int
    """From 1, without gaps, in the order in which they happened."""
    at: datetime
    kind: str
    told: Mapping[str, Any]


class NotNow(AutopeftError):
    """What is asked for does not go with the state of a search."""


class Queue:
    """The searches of a database that were given to a service."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def add(self, name: str, plan: Plan, begun_by: str, errand: Errand | None = None) -> None:
        """A search waits from now on: a new one, or with an errand one that the database remembers."""

        def work(session: Session) -> None:
            known = session.scalar(select(SearchRow.id).where(SearchRow.name == name)) is not None
            if _row(session, name) is not None or (known and errand is None):
                raise NameTaken(f"a search named '{name}' exists already; go on with it, or give another name.")
            row = QueueRow(
                name=name,
                state=WAITING,
                position=_last(session),
                plan=plain_plan(plan),
                errand=asdict(errand or Errand()),
                asked="",
                begun_by=begun_by,
                created=datetime.now(UTC),
                owner="",
                host="",
                attempts=0,
                reason="",
            )
            session.add(row)
            session.flush()
            say(session, row.id, STATE, {"state": WAITING})

        self._opened.write(work)

    def entries(self) -> tuple[Entry, ...]:
        """All of them: those that wait in their order, then the others, the newest first."""
        with self._opened.reading() as session:
            waiting = session.scalars(select(QueueRow).where(QueueRow.state == WAITING).order_by(QueueRow.position))
            first = [_entry(row, place) for place, row in enumerate(waiting, 1)]
            others = session.scalars(select(QueueRow).where(QueueRow.state != WAITING).order_by(QueueRow.id.desc()))
            return *first, *map(_entry, others)

    def states(self) -> Counter[str]:
        """How many are in each state."""
        with self._opened.reading() as session:
            query = select(QueueRow.state, func.count()).group_by(QueueRow.state)
            return Counter({state: int(count) for state, count in session.execute(query)})

    def entry(self, name: str) -> Entry | None:
        """The entry of a search; None where it was never given to a service."""
        with self._opened.reading() as session:
            row = session.scalar(select(QueueRow).where(QueueRow.name == name))
            if row is None or row.state != WAITING:
                return None if row is None else _entry(row)
            before = (QueueRow.state == WAITING, QueueRow.position <= row.position)
            return _entry(row, session.scalar(select(func.count()).select_from(QueueRow).where(*before)))

    def stop(self, name: str) -> None:
        """A search that runs ends at once, and one that waits waits no longer; each can be gone on with."""

        def work(session: Session) -> None:
            row = _known(session, name)
            if row.state == WAITING:
                row.state = STOPPED
                say(session, row.id, STATE, {"state": STOPPED})
            elif row.state == RUNNING:
                row.asked = STOPPED
            else:
                raise NotNow(f"search '{name}' is {row.state}; only one that runs or waits can be stopped.")

        self._opened.write(work)

    def again(self, name: str, errand: Errand) -> None:
        """A search that neither runs nor waits waits again, as the last one."""

        def work(session: Session) -> None:
            row = _known(session, name)
            if row.state in (WAITING, RUNNING):
                raise NotNow(f"search '{name}' is {row.state} already; stop it first, or wait until it has ended.")
            row.state, row.errand, row.position = WAITING, asdict(errand), _last(session)
            row.attempts, row.reason, row.asked = 0, "", ""
            say(session, row.id, STATE, {"state": WAITING})

        self._opened.write(work)

    def move(self, name: str, place: int) -> None:
        """A search that waits has this place among those that wait, from 1; or the last one."""

        def work(session: Session) -> None:
            row = _known(session, name)
            if row.state != WAITING:
                raise NotNow(f"search '{name}' is {row.state}; only those that wait have a place.")
            waiting = select(QueueRow).where(QueueRow.state == WAITING).order_by(QueueRow.position).with_for_update()
            others = [each for each in session.scalars(waiting) if each.id != row.id]
            others.insert(max(place, 1) - 1, row)
            for position, each in enumerate(others, 1):
                each.position = position

        self._opened.write(work)

    def remove(self, name: str) -> None:
        """Forgets a search that does not run, and what happened in it; the database of searches keeps its trials."""

        def work(session: Session) -> None:
            row = _known(session, name)
            if row.state == RUNNING:
                raise NotNow(f"search '{name}' is running; stop it first.")
            session.delete(row)

        self._opened.write(work)

    def happened(self, entry: Entry, after: int = 0, most: int = 1000) -> Sequence[Happened] | None:
        """What happened in a search after an event, the oldest first; None where it was deleted."""
        query = select(EventRow).where(EventRow.queue_id == entry.id, EventRow.number > after).order_by(EventRow.number)
        with self._opened.reading() as session:
            row = session.get(QueueRow, entry.id)
            # Another search may have got its number.
            if row is None or row.created != entry.created:
                return None
            return [_happened(row) for row in session.scalars(query.limit(most))]

    def latest(self, entry: Entry) -> Happened | None:
        """What happened last in a search; None where nothing has."""
        query = select(EventRow).where(EventRow.queue_id == entry.id).order_by(EventRow.number.desc()).limit(1)
        with self._opened.reading() as session:
            row = session.scalar(query)
            return None if row is None else _happened(row)


def say(session: Session, id: int, kind: str, told: Mapping[str, Any]) -> None:
    """Remembers an event, with what else the transaction changes."""
    last = session.scalar(select(func.max(EventRow.number)).where(EventRow.queue_id == id)) or 0
    session.add(EventRow(queue_id=id, number=last + 1, at=datetime.now(UTC), kind=kind, told=dict(told)))
    session.flush()


def _happened(row: EventRow) -> Happened:
    return Happened(row.number, row.at, row.kind, row.told)


def _row(session: Session, name: str) -> QueueRow | None:
    return session.scalar(select(QueueRow).where(QueueRow.name == name).with_for_update())


def _known(session: Session, name: str) -> QueueRow:
    if (row := _row(session, name)) is None:
        raise unknown_search(name, session.scalars(select(QueueRow.name)))
    return row


def _last(session: Session) -> int:
    return (session.scalar(select(func.max(QueueRow.position))) or 0) + 1


def _entry(row: QueueRow, place: int | None = None) -> Entry:
    errand = Errand(**row.errand)
    of_now = (row.asked, row.reason, place)
    return Entry(row.id, row.name, row.state, plan_of(row.plan), errand, row.begun_by, row.created, *of_now)
