"""A database that is open for as long as the service runs, its tables made and up to date."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from autopeft.storage.database import answered, connect, read_url, writing
from autopeft.storage.schema import bring_up_to_date

_Value = TypeVar("_Value")
_TRIES = 8
"""Of a transaction that another one came before; PostgreSQL refuses the later one then."""


class Opened:
    """One engine, from whatever thread. Raises AutopeftError for a database that cannot be used."""

    def __init__(self, url: str) -> None:
        self._url = read_url(url)
        self._engine = connect(self._url)
        with answered(self._url, at_first=True):
            bring_up_to_date(self._engine, self._url)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with answered(self._url), Session(self._engine) as session, session.begin():
            yield session

    def write(self, work: Callable[[Session], _Value]) -> _Value:
        """Does all of it in one transaction; anew where another one came before."""
        with answered(self._url):
            for remaining in reversed(range(_TRIES)):
                try:
                    with Session(writing(self._engine)) as session, session.begin():
                        return work(session)
                except DBAPIError:
                    if not remaining:
                        raise
                time.sleep(random.uniform(0.0, 0.1))
        raise AssertionError("the last try returns or raises")
