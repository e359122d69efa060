"""The versions of the tables: which one a database has, and the way to the newest.

Migrations are numbered files below `storage/migrations/versions`, so the newest version is known without importing
Alembic, which is needed only when there is something to migrate. A migration happens wholly or not at all where the
database allows that (SQLite and PostgreSQL do), and two programs that find the same old database may both begin.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from sqlalchemy import URL, Connection, Engine, column, inspect, select, table
from sqlalchemy.exc import DBAPIError, OperationalError

from autopeft.errors import AutopeftError
from autopeft.shipped import shipped
from autopeft.storage.database import writing
from autopeft.storage.urls import shown

if TYPE_CHECKING:
    from alembic.config import Config

_TABLE = "alembic_version"
_TRIES = 30
_PAUSE = 0.1
"""Seconds between tries, after which another program's migration may be done."""


def versions() -> tuple[str, ...]:
    """All versions that this program knows, oldest first."""
    folder = shipped("storage") / "migrations" / "versions"
    return tuple(sorted(file.name.split("_")[0] for file in folder.glob("[0-9]*_*.py")))


def version(engine: Engine) -> str | None:
    """The version of a database's tables; None when it has none."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(_TABLE):
            return None
        return connection.scalar(select(column("version_num")).select_from(table(_TABLE)))


def bring_up_to_date(engine: Engine, url: URL) -> None:
    """Makes or migrates the tables as needed. Raises AutopeftError for a database that this program does not know."""
    for remaining in reversed(range(_TRIES)):
        found, known = version(engine), versions()
        if found == known[-1]:
            return
        if found is not None and found not in known:
            raise AutopeftError(
                f"the tables in {shown(url)} have version '{found}', but this autopeft knows versions up to "
                f"'{known[-1]}'; install a newer autopeft, or give another database by --storage."
            )
        try:
            migrate(engine, _upgrade)
        except DBAPIError:
            if not remaining:
                raise
            time.sleep(_PAUSE)


def migrate(engine: Engine, run: "Callable[[Config], object]") -> None:
    """Runs a command of Alembic in one transaction, as in `migrate(engine, lambda config: command.current(config))`."""
    from alembic.config import Config

    folder = shipped("storage") / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    with writing(engine).connect() as connection:
        connection.detach()
        if engine.dialect.name == "sqlite":
            _prepare(connection)
        with connection.begin():
            config.attributes["connection"] = connection
            run(config)


def _prepare(connection: Connection) -> None:
    """For SQLite, before the transaction: readers never wait from now on; a table made anew drops no rows of others."""
    with closing(connection.connection.cursor()) as cursor:
        for pragma in ("PRAGMA journal_mode = WAL", "PRAGMA foreign_keys = OFF"):
            try:
                cursor.execute(pragma)
            except sqlite3.OperationalError as error:  # locked: to change the mode SQLite waits for nobody
                raise OperationalError(pragma, None, error) from error


def _upgrade(config: "Config") -> None:
    from alembic import command

    command.upgrade(config, "head")
