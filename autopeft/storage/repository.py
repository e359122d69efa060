"""The database of searches: the only memory of a search, from which it is reported and resumed.

Every write is committed when its method returns, so a killed search loses at most what was still training. Only the
driver writes: the first write to a search claims it for this process. Reading never makes a database; `create` does.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Self

from sqlalchemy import Double, Engine, Text, cast, delete, false, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, subqueryload

from autopeft.errors import AutopeftError, unknown_search
from autopeft.foreign import brief
from autopeft.objectives import ACCURACY, Objective
from autopeft.plan import Plan
from autopeft.storage.checked import checked
from autopeft.storage.claims import claim
from autopeft.storage.database import answered, connect, file_of, read_url, require_writable, writing
from autopeft.storage.models import (
    ConfirmationRow,
    OutcomeRow,
    RungRow,
    SearchRow,
    TrialRow,
    metric_of,
    plain_baselines,
    plain_plan,
)
from autopeft.storage.schema import bring_up_to_date, version
from autopeft.storage.urls import shown
from autopeft.trial import Baseline, Confirmation, SearchRecord, Status, Trial

_ON_THE_WAY = (Status.TRAINING, Status.STOPPED)
"""Of trials that are models where the weights of their last rung were kept."""


@dataclass(frozen=True)
class Summary:
    """One search in a list."""

    name: str
    created: datetime
    ended: datetime | None
    trials: int
    """How many there are, unfinished and failed ones included."""
    best: float | None
    """The best score of a trial that is a model; None when there is none."""
    model: str
    metric: Objective = ACCURACY
    """What the best is the best of."""


@dataclass(frozen=True)
class _Claimed:
    search_id: int
    release: Callable[[], None]


class Stamp(NamedTuple):
    """When a search was looked at."""

    search: tuple[Any, ...]
    """Which one: another one may get its name, and its number."""
    known: tuple[Any, ...]
    """A few numbers that are others when more is known of it."""


class NameTaken(AutopeftError):
    """There is a search of this name."""


class Repository:
    """Searches in one database: `with Repository("sqlite:///autopeft.db") as repository: …`.

    A trial is recorded as often as something becomes known of it, and whole each time; recording it twice equals once.
    All methods raise AutopeftError: for a name that is not there (or there already), a database that cannot be used, a
    write to a search that another process is running.
    """

    def __init__(self, url: str) -> None:
        self._url = read_url(url)
        self._engine: Engine = connect(self._url)
        self._file = file_of(self._url)
        self._up_to_date = False
        self._claims: dict[str, _Claimed] = {}

    def __enter__(self) -> Self:
        try:
            self._has_tables()
        except AutopeftError:
            self._engine.dispose()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for claimed in self._claims.values():
            claimed.release()
        self._claims.clear()
        self._engine.dispose()

    def names(self) -> tuple[str, ...]:
        """All searches, in the order in which they were created."""
        if not self._has_tables():
            return ()
        with self._reading() as session:
            known = session.scalars(select(SearchRow.name).order_by(SearchRow.id))
            # Whoever changed the database by hand may have written something else there.
            return tuple(name for name in known if isinstance(name, str))

    def summaries(self, name: str | None = None) -> tuple[Summary, ...]:
        """All searches, in the order in which they were created; or the one of this name, where there is one."""
        if not self._has_tables():
            return ()
        last = (
            select(RungRow.search_id, RungRow.number, func.max(RungRow.position).label("position"))
            .group_by(RungRow.search_id, RungRow.number)
            .subquery()
        )
        finished = (
            select(
                RungRow.search_id,
                func.max(RungRow.score, type_=Double()).label("highest"),
                func.min(RungRow.score, type_=Double()).label("lowest"),
            )
            .join(
                last,
                (RungRow.search_id == last.c.search_id)
                & (RungRow.number == last.c.number)
                & (RungRow.position == last.c.position),
            )
            .join(TrialRow, (RungRow.search_id == TrialRow.search_id) & (RungRow.number == TrialRow.number))
            .where((TrialRow.status == Status.FINISHED) | (RungRow.artifact != "") & TrialRow.status.in_(_ON_THE_WAY))
            .group_by(RungRow.search_id)
            .subquery()
        )
        counted = select(TrialRow.search_id, func.count().label("trials")).group_by(TrialRow.search_id).subquery()
        query = (
            select(SearchRow, counted.c.trials, finished.c.highest, finished.c.lowest)
            .outerjoin(counted, counted.c.search_id == SearchRow.id)
            .outerjoin(finished, finished.c.search_id == SearchRow.id)
            .order_by(SearchRow.id)
        )
        if name is not None:
            query = query.where(SearchRow.name == name)
        with self._reading() as session, self._as_written("a search"):
            return tuple(_summary(*row) for row in session.execute(query))

    def counts(self) -> Mapping[Status, int]:
        """How many trials of all searches have each status."""
        if not self._has_tables():
            return {}
        with self._reading() as session:
            query = select(TrialRow.status, func.count()).group_by(TrialRow.status)
            return {status: int(count) for status, count in session.execute(query)}

    def stamp(self, name: str) -> Stamp | None:
        """What tells whether more is known of a search than before; None where there is none. Much quicker than to load
        it.
        """
        if not self._has_tables():
            return None
        columns = (TrialRow.search_id, RungRow.search_id, OutcomeRow.search_id, ConfirmationRow.search_id)
        counts = [select(func.count()).where(each == SearchRow.id).scalar_subquery() for each in columns]
        latest = select(func.max(TrialRow.finished)).where(TrialRow.search_id == SearchRow.id).scalar_subquery()
        lengths = [func.length(cast(each, Text)) for each in (SearchRow.plan, SearchRow.facts, SearchRow.baselines)]
        with self._reading() as session:
            query = select(SearchRow.id, SearchRow.created, SearchRow.ended, latest, *counts, *lengths)
            found = session.execute(query.where(SearchRow.name == name)).first()
            return Stamp(tuple(found[:2]), tuple(found[2:])) if found is not None else None

    def load(self, name: str) -> SearchRecord:
        """All that is remembered of a search; its trials by number."""
        if self._has_tables():
            parts = (TrialRow.curve, TrialRow.outcome)
            options = [subqueryload(SearchRow.trials).subqueryload(part) for part in parts]
            confirmed = subqueryload(SearchRow.trials).subqueryload(TrialRow.confirmations)
            options.append(confirmed.subqueryload(ConfirmationRow.answers))
            with self._reading() as session, self._as_written(f"search {brief(name)}"):
                row = session.scalar(select(SearchRow).where(SearchRow.name == name).options(*options))
                if row is not None:
                    return row.record()
        raise unknown_search(name, self.names())

    def require_free(self, name: str) -> None:
        """Raises AutopeftError when a search of this name could not be created, before anything is done for it."""
        if not self._has_tables():
            if self._file is not None:
                require_writable(self._file)
        elif name in self.names():
            raise _taken(name)
        else:
            with self._writing() as session:
                session.execute(update(SearchRow).where(false()).values(name=name))

    def create(self, record: SearchRecord) -> None:
        """Remembers a new search, and makes the database where there is none."""
        with answered(self._url, at_first=True):
            bring_up_to_date(self._engine, self._url)
        with self._writing() as session:
            row = SearchRow.of(record)
            session.add(row)
            try:
                session.flush()
            except IntegrityError as error:
                raise _taken(record.name) from error
            session.add_all(TrialRow.of(row.id, trial) for trial in record.trials)
            session.flush()
            session.add_all(ConfirmationRow.of(row.id, each) for each in record.confirmations)
        self.claim(record.name)

    def record(self, name: str, trial: Trial) -> None:
        """Remembers all that is known of a trial, in place of what was remembered of it: also rungs may be gone."""
        row = TrialRow.of(self._claimed(name), trial)
        with self._writing() as session:
            session.merge(row)

    def confirm(self, name: str, confirmation: Confirmation) -> None:
        """Remembers a confirmation of a trial that is remembered already."""
        row = ConfirmationRow.of(self._claimed(name), confirmation)
        with self._writing() as session:
            session.merge(row)

    def update(
        self,
        name: str,
        *,
        plan: Plan | None = None,
        baselines: Mapping[str, Baseline] | None = None,
        facts: Mapping[str, Any] | None = None,
        turned_away: Mapping[str, int] | None = None,
        ended: datetime | None = None,
    ) -> None:
        """Remembers what is given of a search itself, in place of what was remembered."""
        given = {
            "plan": plain_plan(plan) if plan is not None else None,
            "baselines": plain_baselines(baselines) if baselines is not None else None,
            "facts": dict(facts) if facts is not None else None,
            "turned_away": dict(turned_away) if turned_away is not None else None,
            "ended": ended,
        }
        search_id = self._claimed(name)
        with self._writing() as session:
            row = session.get_one(SearchRow, search_id)
            for field, value in given.items():
                if value is not None:
                    setattr(row, field, value)

    def reopen(self, name: str) -> None:
        """Remembers that a search goes on that had reached its limits."""
        search_id = self._claimed(name)
        with self._writing() as session:
            session.get_one(SearchRow, search_id).ended = None

    def delete(self, name: str) -> None:
        """Forgets a search with all that belongs to it."""
        search_id = self._claimed(name)
        with self._writing() as session:
            session.execute(delete(SearchRow).where(SearchRow.id == search_id))
        self._claims.pop(name).release()

    def claim(self, name: str) -> None:
        """Makes this process the only one that writes to a search, until the repository closes. Every write does it."""
        self._claimed(name)

    def _claimed(self, name: str) -> int:
        """The key of a search that this process has claimed."""
        if name in self._claims:
            return self._claims[name].search_id
        search_id = None
        if self._has_tables():
            with self._reading() as session:
                search_id = session.scalar(select(SearchRow.id).where(SearchRow.name == name))
        if search_id is None:
            raise unknown_search(name, self.names())
        with answered(self._url):
            release = claim(self._engine, self._file, search_id)
        if release is None:
            raise AutopeftError(f"search '{name}' is being run by another process; wait until it ends, or stop it.")
        self._claims[name] = _Claimed(search_id, release)
        return search_id

    def _has_tables(self) -> bool:
        """Whether there is something to read; tables of an older version are migrated, but none are made."""
        if not self._up_to_date and (self._file is None or self._file.exists()):
            with answered(self._url, at_first=True):
                if version(self._engine) is not None:
                    bring_up_to_date(self._engine, self._url)
                    self._up_to_date = True
        return self._up_to_date

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with answered(self._url), Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def _as_written(self, what: str) -> Iterator[None]:
        """Turns whatever stumbles over cells that somebody else changed into one sentence."""
        try:
            yield
        except (
            AutopeftError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            why = f"{'' if isinstance(error, AutopeftError) else type(error).__name__ + ': '}{error}".rstrip(".")
            raise AutopeftError(
                f"{what} in the database {shown(self._url)} is not as autopeft wrote it: {why}; restore a copy of the "
                "database, or give another."
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with answered(self._url), Session(writing(self._engine)) as session, session.begin():
            yield session


def _summary(row: SearchRow, trials: int | None, highest: float | None, lowest: float | None) -> Summary:
    metric = metric_of(row.metric)
    best = highest if metric.higher_is_better else lowest
    return checked(Summary(row.name, row.created, row.ended, trials or 0, best, row.plan["model"], metric))


def _taken(name: str) -> NameTaken:
    return NameTaken(f"a search named '{name}' exists already; go on with it by `resume`, or give another name.")
