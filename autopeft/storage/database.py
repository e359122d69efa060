"""From a URL to an engine, and from a database's refusal to a sentence.

SQLite is made fit for one writer and many readers: transactions are SQLAlchemy's own, a writing one begins as such (so
that it waits for its turn instead of failing halfway), and foreign keys are kept.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy import dialects as known_dialects
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as Waited

from autopeft.errors import AutopeftError, unknown
from autopeft.storage.urls import shown, without_secrets

EXAMPLE = "sqlite:///autopeft.db"
_PATIENCE = 30.0
"""Seconds that SQLite waits for another process's transaction."""
_WRITES = "autopeft_writes"
_AT_FIRST = (SQLAlchemyError, OSError, TypeError, ValueError, LookupError)
"""What connecting raises: drivers read the options of a URL in their own ways."""
_MOST_OF_A_CELL = 256 * 2**20
"""Bytes; somebody else's database may compute more than it holds."""
_NOT_OURS = (
    "SELECT 1 FROM sqlite_master WHERE type = 'trigger' OR (type = 'view' AND name IN "
    "('searches', 'trials', 'curves', 'costs', 'outcomes', 'confirmations', 'answers', 'queue', 'events', 'tokens', "
    "'alembic_version'))"
)


class DatabaseRefuses(AutopeftError):
    """A database that cannot be used, or not now."""


def read_url(text: str) -> URL:
    """A database's URL. Raises AutopeftError, without what SQLAlchemy says: it might repeat a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None:
        file = f"sqlite:///{shown(text)}" if text and ":" not in text else EXAMPLE
        raise AutopeftError(
            f"'{shown(text)}' is not the URL of a database; write it like {file} or "
            "postgresql+psycopg://USER:PASSWORD@HOST/NAME."
        )
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite and url.database in (None, "", ":memory:"):
        raise AutopeftError(
            f"'{shown(text)}' forgets everything when the program ends; give a file, such as {EXAMPLE}."
        )
    if sqlite and url.query and str(url.query.get("uri")).lower() not in ("true", "1", "yes"):
        raise AutopeftError(
            f"what stands after ? in '{shown(text)}' counts only where uri=true is among it, as in "
            "sqlite:///file:autopeft.db?mode=ro&uri=true."
        )
    if not sqlite and "@" in f"{url.host}{url.database}":
        raise AutopeftError(
            f"'{shown(text)}' holds more than one @; in a user's name or a password write %40 instead, and %2F for /."
        )
    return url


def file_of(url: URL) -> Path | None:
    """The file that SQLite keeps the database in; None for other databases, and for SQLite's own URIs."""
    if url.get_backend_name() != "sqlite" or url.database is None or url.database.startswith("file:"):
        return None
    return Path(url.database).resolve()


def connect(url: URL) -> Engine:
    """An engine, not yet connected. Raises AutopeftError."""
    sqlite, file = url.get_backend_name() == "sqlite", file_of(url)
    if file is not None:
        _require_place(file)
        url = url.set(database=str(file))
    settings: dict[str, Any] = {"connect_args": {"timeout": _PATIENCE}} if sqlite else {"pool_pre_ping": True}
    if url.get_backend_name() == "postgresql":
        # What is loaded by several statements belongs to one moment; elsewhere that is so by default.
        settings["isolation_level"] = "REPEATABLE READ"
    try:
        engine = create_engine(url, **settings)
    except NoSuchModuleError as error:
        raise unknown("kind of database", url.drivername, known_dialects.__all__) from error
    except ImportError as error:
        driver = url.get_driver_name()
        raise AutopeftError(
            f"the driver '{driver}' of {shown(url)} cannot be imported ({error}); install it, or give another "
            f"database, such as {EXAMPLE}."
        ) from error
    except _AT_FIRST as error:
        raise _refused(url, error) from None
    if sqlite:
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
    return engine


def writing(engine: Engine) -> Engine:
    """The same engine for transactions that write."""
    return engine.execution_options(**{_WRITES: True})


@contextmanager
def answered(url: URL, at_first: bool = False) -> Iterator[None]:
    """Turns what a database refuses into one sentence; `at_first` where a connection is made for the first time.

    What the driver raised goes no further, because it may repeat a password.
    """
    try:
        yield
    except _AT_FIRST as error:
        if not (at_first or isinstance(error, DBAPIError | Waited)):
            raise
        raise _refused(url, error) from None


def _refused(url: URL, error: Exception) -> AutopeftError:
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    cause = " ".join(without_secrets(said, url.password, url.query).split()).rstrip(".")
    return DatabaseRefuses(f"cannot use the database {shown(url)}: {cause}; give another, such as {EXAMPLE}.")


def require_writable(file: Path) -> None:
    """Raises AutopeftError when a database cannot be made there."""
    if not os.access(file.parent, os.W_OK):
        raise AutopeftError(f"the database '{file}' cannot be made: its folder cannot be written; give another place.")


def _require_place(file: Path) -> None:
    if file.is_dir():
        raise AutopeftError(
            f"'{file}' is a folder; give a file for the database, such as sqlite:///{file}/autopeft.db."
        )
    if not file.parent.is_dir():
        raise AutopeftError(
            f"the database '{file}' lies in no folder: there is no '{file.parent}'; make it, or give another."
        )


def _on_connect(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_OF_A_CELL)
    if connection.execute(_NOT_OURS).fetchone() is not None:
        raise sqlite3.DatabaseError("views or triggers stand in the place of tables, which autopeft never makes")


def _on_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
