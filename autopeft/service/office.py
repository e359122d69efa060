"""What all requests share: the database, the queue, tokens, and what was read or rendered lately."""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from autopeft.errors import unknown
from autopeft.reports import render, require_format
from autopeft.reports.findings import Findings, find
from autopeft.searching.search import Search
from autopeft.searching.whereabouts import LACKING, has_weights
from autopeft.service.allowed import allowed_code, data_place, model_place
from autopeft.service.apart import Apart
from autopeft.service.feeds import Feeds
from autopeft.service.problems import NotThere, not_written
from autopeft.service.settings import Settings
from autopeft.storage.opened import Opened
from autopeft.storage.queue import RUNNING, Entry, Errand, Queue
from autopeft.storage.repository import Repository
from autopeft.storage.tokens import Tokens
from autopeft.trial import Trial

_KEPT = 24
"""Searches, reports and plots that are kept until they change; a page with its plots takes 5 MB."""
_LATE, _LATEST = 10, 30.0
"""Of a search that runs, what was made may be late by so many times as long as it took, and by so many seconds: else a
service of many readers would make reports anew all the time.
"""


class _Slot:
    """What was made, and at which stamp of what it was made from."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stamp: object = self
        self.value: Any = None
        self.will_do_until = 0.0
        """By the monotonic clock, what was made, for a search that runs."""


class Office:
    """One for each service; asked from many threads. All methods raise AutopeftError."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.opened = Opened(settings.storage)
        self.queue = Queue(self.opened)
        self.tokens = Tokens(self.opened)
        self.repository = Repository(settings.storage)
        self.apart = Apart()
        self.answering = Apart(processes=1)
        """Holds one winner at a time."""
        self.feeds = Feeds(self.queue)
        self._lately: OrderedDict[tuple[str, str], _Slot] = OrderedDict()
        self._looking = threading.Lock()

    def close(self) -> None:
        self.apart.close()
        self.answering.close()
        self.repository.__exit__()
        self.opened.close()

    def names(self) -> set[str]:
        """Of all searches, those that wait for their first trial included."""
        return {*self.repository.names(), *(each.name for each in self.queue.entries())}

    def data_in_use(self) -> set[str]:
        """Where the data of all searches of the queue lie."""
        return {each.plan.data for each in self.queue.entries()}

    def entry(self, name: str) -> Entry | None:
        """What the queue knows of a search; None where a command line began it. Raises NotThere."""
        entry = self.queue.entry(name)
        if entry is None and self.repository.stamp(name) is None:
            raise NotThere(str(unknown("search", name, self.names())))
        return entry

    def search(self, name: str) -> Search | None:
        """A search as the database remembers it; None while it waits for its first trial. Raises NotThere."""
        stamp = self.repository.stamp(name)
        if stamp is None:
            self.entry(name)
            return None
        folder = self.settings.folder.absolute()
        found: Search = self.kept((name, "search"), stamp, lambda: Search(name, self.settings.storage, folder))
        return found

    def begun(self, name: str) -> Search:
        """The same. Raises NotThere also where nothing is known of it yet."""
        if (search := self.search(name)) is None:
            raise NotThere(f"search '{name}' has not begun yet; it is {self.state(name)}.")
        return search

    def trial(self, name: str, number: int) -> Trial:
        """One of its trials. Raises NotThere."""
        trials = self.begun(name).trials
        if (found := next((each for each in trials if each.number == number), None)) is None:
            raise NotThere(f"search '{name}' has no trial {number}; it has {len(trials)}, numbered from 1.")
        return found

    def database(self, name: str) -> bytes:
        """An SQLite file that holds this search alone, and among its facts whose weights are not there."""
        search, stamp = self.begun(name), self.repository.stamp(name)

        def make() -> bytes:
            lacking = [each.number for each in search.trials if not has_weights(each)]
            record = replace(search.record, facts={**search.record.facts, LACKING: lacking})
            try:
                with TemporaryDirectory() as folder:
                    file = Path(folder) / "search.db"
                    with Repository(f"sqlite:///{file}") as repository:
                        repository.create(record)
                    return file.read_bytes()
            except OSError as error:
                raise not_written(error) from error

        made: bytes = self.kept((name, "database"), stamp, make)
        return made

    def report(self, name: str, format: str) -> str:
        """The report of a search; made once for as long as nothing new is known."""
        require_format(format)
        search, stamp = self.begun(name), self.repository.stamp(name)
        made: str = self.kept((name, format), stamp, lambda: render(search.record, format))
        return made

    def findings(self, name: str) -> Findings:
        """What there is to say about a search."""
        search, stamp = self.begun(name), self.repository.stamp(name)
        found: Findings = self.kept((name, "findings"), stamp, lambda: find(search.record))
        return found

    def plain(self, name: str) -> dict[str, Any]:
        """The report as JSON, as plain values."""
        text, stamp = self.report(name, "json"), self.repository.stamp(name)
        read: dict[str, Any] = self.kept((name, "plain"), stamp, lambda: json.loads(text))
        return read

    def state(self, name: str) -> str:
        """Of the queue where that knows it, else whether it ended."""
        entry = self.entry(name)
        if entry is not None:
            return entry.state
        search = self.search(name)
        return "ended" if search is not None and search.record.ended else "unfinished"

    def again(self, name: str, errand: Errand, begun_by: str) -> None:
        """A search waits to be gone on with. What a command line began is held to the same rules as a new plan."""
        if self.entry(name) is not None:
            self.queue.again(name, errand)
            return
        plan = allowed_code(self.begun(name).plan, self.settings)
        model, data = model_place(plan.model, self.settings), data_place(plan.data, self.settings)
        self.queue.add(name, replace(plan, model=model, data=data), begun_by, errand)

    @cached_property
    def tasks(self) -> Any:
        from autopeft.service import work

        return self.apart.run(60, work.tasks)

    @cached_property
    def methods(self) -> Any:
        from autopeft.service import work

        return self.apart.run(300, work.methods)

    def kept(self, key: tuple[str, str], stamp: object, make: Callable[[], Any]) -> Any:
        """What was made at this stamp; many who ask at once wait for one who makes it."""
        with self._looking:
            slot = self._lately.setdefault(key, _Slot())
            self._lately.move_to_end(key)
            if len(self._lately) > _KEPT:
                self._lately.popitem(last=False)
        with slot.lock:
            if slot.stamp != stamp and not (time.monotonic() < slot.will_do_until and self._runs(key[0])):
                began = time.monotonic()
                slot.value, slot.stamp = make(), stamp
                took = time.monotonic() - began
                slot.will_do_until = began + took + min(_LATE * took, _LATEST)
            return slot.value

    def _runs(self, name: str) -> bool:
        entry = self.queue.entry(name)
        return entry is not None and entry.state == RUNNING
