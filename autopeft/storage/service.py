"""The tables of the service: what waits and runs, what happened in each search, and whose tokens are good."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from autopeft.storage.base import Base
from autopeft.storage.columns import Moment, Plain


class QueueRow(Base):
    """One search that was given to the service, from when it waits until it is deleted."""

    __tablename__ = "queue"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    state: Mapped[str] = mapped_column(String(20))
    position: Mapped[int] = mapped_column(BigInteger)
    """Of those that wait, the least comes first."""
    plan: Mapped[dict[str, Any]] = mapped_column(Plain)
    errand: Mapped[dict[str, Any]] = mapped_column(Plain)
    """What is to be done next, or was done last: see `queue.Errand`."""
    asked: Mapped[str] = mapped_column(String(20))
    """What its process is to become, such as stopped; empty where nothing is asked."""
    begun_by: Mapped[str] = mapped_column(String(255))
    created: Mapped[datetime] = mapped_column(Moment)
    owner: Mapped[str] = mapped_column(String(64))
    """The process that runs it, by a random name; empty where none does."""
    host: Mapped[str] = mapped_column(String(255))
    lease: Mapped[datetime | None] = mapped_column(Moment)
    """Until when its process is taken to live, without a further sign of life."""
    attempts: Mapped[int] = mapped_column()
    """How often it was given to a process since one of its trials ended."""
    reason: Mapped[str] = mapped_column(Text)
    """Why it failed."""


class EventRow(Base):
    """One thing that happened in a search of the queue."""

    __tablename__ = "events"

    queue_id: Mapped[int] = mapped_column(ForeignKey("queue.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(Moment)
    kind: Mapped[str] = mapped_column(String(40))
    told: Mapped[dict[str, Any]] = mapped_column(Plain)


class TokenRow(Base):
    """One token, of which only a hash is kept."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    created: Mapped[datetime] = mapped_column(Moment)
    revoked: Mapped[datetime | None] = mapped_column(Moment)
