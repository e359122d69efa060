"""A search has one driver at a time: whoever writes a search claims it first, and keeps it until it ends.

A claim is a lock that the operating system or the database takes back when its holder dies, however it dies, so none is
ever left behind. Beside an SQLite file it is a locked file (on Unix); in PostgreSQL it is an advisory lock of a
transaction that stays open. Elsewhere, and on file systems without locks, two drivers of one search are not kept apart.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from autopeft.errors import AutopeftError

if sys.platform != "win32":
    import fcntl

_LOCK = text("SELECT pg_try_advisory_xact_lock((CAST(CAST('searches' AS regclass) AS oid)::bigint << 32) | :search_id)")
"""Its key is made of the table and the search, so that it is nobody else's."""


def claim(engine: Engine, file: Path | None, search_id: int) -> Callable[[], None] | None:
    """Claims a search; returns what gives it back, or None when another holds it. Raises AutopeftError."""
    if file is not None:
        return _claim_beside(file.with_name(f"{file.name}-search-{search_id}.lock"))
    return _claim_within(engine, search_id) if engine.dialect.name == "postgresql" else _nothing


def _claim_beside(lock: Path) -> Callable[[], None] | None:
    if sys.platform == "win32":
        return _nothing
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise AutopeftError(
                f"the lock '{lock}' cannot be opened ({error.strerror}); remove it, or give another database."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            return None if isinstance(error, BlockingIOError) else _nothing
        if os.fstat(descriptor).st_nlink:
            break
        # Its last holder removed it between our opening and our locking.
        os.close(descriptor)

    def release() -> None:
        with suppress(OSError):
            lock.unlink()
        os.close(descriptor)

    return release


def _claim_within(engine: Engine, search_id: int) -> Callable[[], None] | None:
    # Between statements, READ COMMITTED holds back no vacuum, however long the transaction stays open.
    connection = engine.execution_options(isolation_level="READ COMMITTED").connect()
    connection.detach()

    def release() -> None:
        with suppress(DBAPIError):
            connection.close()

    if connection.scalar(_LOCK, {"search_id": search_id}):
        return release
    release()
    return None


def _nothing() -> None:
    """Gives nothing back."""
