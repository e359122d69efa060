"""What is known of searches: each as the database remembers it at one moment, and what was made of that.

Whoever asks sees one moment. Of a search that runs, that is a moment ago, while what is new since then is made ready
beside it: so nobody waits for a report, and however many look, the service does not make reports all the time.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.reports import render, require_format
from autopeft.reports.findings import Findings, find
from autopeft.searching.search import Search
from autopeft.searching.whereabouts import LACKING, has_weights
from autopeft.service.lately import Lately
from autopeft.service.problems import NotThere, not_written
from autopeft.storage.repository import Repository, Stamp
from autopeft.trial import Trial

_KEPT = 8
"""Searches that are kept; what is made of one takes 10 MB."""
_PAUSE, _LONGEST = 10, 15.0
"""What is new of a search that runs is made ready after so many times as long as that took, and so many seconds at
most: a tenth of a core goes into it.
"""
_OLDEST = 30.0
"""Seconds; what is known for longer is told to nobody: who asks first after a while waits for what is new."""
_log = logging.getLogger(__name__)


class Known:
    """A search at one moment. What is made of it is made once, when it is first asked for; from many threads."""

    def __init__(self, name: str, storage: str, folder: Path, stamp: Stamp) -> None:
        self._name, self._storage, self._folder = name, storage, folder
        self.stamp = stamp
        """Of the database, before it was read."""
        self._since = time.monotonic()
        self._made: dict[str, Any] = {}
        self._lock = threading.RLock()

    def at(self, stamp: Stamp) -> "Known":
        """The same search at a later moment, with all made that is made of this one. Raises AutopeftError."""
        later = Known(self._name, self._storage, self._folder, stamp)
        with self._lock:
            wanted = [*self._made]
        for each in wanted:
            later._once(each)
        return later

    def may_stand_for(self, stamp: Stamp) -> bool:
        """Whether this may be told of a search that runs, while something later is made ready."""
        return self.stamp.search == stamp.search and time.monotonic() - self._since < _OLDEST

    @property
    def search(self) -> Search:
        found: Search = self._once("search")
        return found

    @property
    def findings(self) -> Findings:
        """What there is to say about it."""
        found: Findings = self._once("findings")
        return found

    @property
    def plain(self) -> dict[str, Any]:
        """Its report as JSON, as plain values."""
        found: dict[str, Any] = self._once("plain")
        return found

    @property
    def database(self) -> bytes:
        """An SQLite file that holds this search alone, and among its facts whose weights are not there."""
        found: bytes = self._once("database")
        return found

    def report(self, format: str) -> bytes:
        require_format(format)
        found: bytes = self._once(format)
        return found

    def trial(self, number: int) -> Trial:
        """One of its trials. Raises NotThere."""
        trials = self.search.trials
        if (found := next((each for each in trials if each.number == number), None)) is None:
            raise NotThere(f"search '{self._name}' has no trial {number}; it has {len(trials)}, numbered from 1.")
        return found

    def plain_trial(self, number: int) -> dict[str, Any]:
        """The same as the JSON report has it. Raises NotThere."""
        self.trial(number)
        found: dict[str, Any] = next(each for each in self.plain["trials"] if each["number"] == number)
        return found

    def _once(self, what: str) -> Any:
        with self._lock:
            if what not in self._made:
                self._made[what] = self._make(what)
            return self._made[what]

    def _make(self, what: str) -> Any:
        if what == "search":
            return Search(self._name, self._storage, self._folder)
        if what == "findings":
            return find(self.search.record)
        if what == "plain":
            return json.loads(self.report("json"))
        if what == "database":
            return self._make_database()
        return render(self.search.record, what).encode()

    def _make_database(self) -> bytes:
        lacking = [each.number for each in self.search.trials if not has_weights(each)]
        record = replace(self.search.record, facts={**self.search.record.facts, LACKING: lacking})
        try:
            with TemporaryDirectory() as folder:
                file = Path(folder) / "search.db"
                with Repository(f"sqlite:///{file}") as repository:
                    repository.create(record)
                return file.read_bytes()
        except OSError as error:
            raise not_written(error) from error


class _Place:
    """What is known of one search at the latest moment that was made ready."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held by who makes a later moment ready."""
        self.known: Known | None = None
        self.next = 0.0
        """When that may be, by the monotonic clock."""


class KnownSearches:
    """What is known of the searches that were asked for lately. All methods raise AutopeftError."""

    def __init__(self, repository: Repository, storage: str, folder: Path) -> None:
        self._repository = repository
        self._first = partial(Known, storage=storage, folder=folder)
        self._places = Lately(_Place, _KEPT)
        self._beside = ThreadPoolExecutor(1, "knowing")

    def close(self) -> None:
        self._beside.shutdown(cancel_futures=True)

    def get(self, name: str, runs: Callable[[], bool]) -> Known | None:
        """What is known of a search, of a moment ago where it `runs`; None where nothing is."""
        if (stamp := self._repository.stamp(name)) is None:
            self._places.forget(name)
            return None
        place = self._places[name]
        known = place.known
        if known is None or (known.stamp != stamp and not (known.may_stand_for(stamp) and runs())):
            with place.lock:
                if place.known is None or place.known.stamp != stamp:
                    place.known = self._first(name, stamp=stamp)
                return place.known
        if known.stamp != stamp and time.monotonic() >= place.next and place.lock.acquire(blocking=False):
            self._beside.submit(self._make_ready, place, known, stamp)
        return known

    def _make_ready(self, place: _Place, known: Known, stamp: Stamp) -> None:
        began = time.monotonic()
        try:
            place.known = known.at(stamp)
        except AutopeftError as error:  # The database may be back soon, or the search was deleted.
            _log.warning("what is known of a search is late: %s", error)
        except Exception:
            _log.exception("a defect of autopeft's; what is known of a search is late")
        finally:
            now = time.monotonic()
            place.next = now + min(_PAUSE * (now - began), _LONGEST)
            place.lock.release()
