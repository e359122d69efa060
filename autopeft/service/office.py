"""What all requests share: the database, the queue, tokens, and what is known of searches."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from autopeft.errors import unknown_search
from autopeft.service import work
from autopeft.service.allowed import allowed_code, data_place, model_place
from autopeft.service.apart import Apart, Few
from autopeft.service.feeds import Feeds
from autopeft.service.known import Known, KnownSearches
from autopeft.service.lately import Lately
from autopeft.service.problems import NotThere
from autopeft.service.settings import Settings
from autopeft.space.space import Space, declared_space, named_spaces
from autopeft.storage.opened import Opened
from autopeft.storage.queue import RUNNING, Entry, Errand, Queue
from autopeft.storage.repository import Repository
from autopeft.storage.tokens import Tokens

_KEPT = 24
"""Answers of processes beside the service that are kept."""
_ASKING = 8
"""Requests that wait for such an answer."""


class _Slot:
    """An answer, or that there is none yet."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answer: Any = None


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
        self._known = KnownSearches(self.repository, settings.storage, settings.folder.absolute())
        self._lately = Lately(_Slot, _KEPT)
        self._asking = Few(_ASKING)

    def close(self) -> None:
        self._known.close()
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
            raise unknown_search(name, self.names())
        return entry

    def known(self, name: str) -> Known | None:
        """A search as the database remembers it; None while it waits for its first trial. Raises NotThere."""
        if (known := self._known.get(name, lambda: self._runs(name))) is None:
            self.entry(name)
        return known

    def begun(self, name: str) -> Known:
        """The same. Raises NotThere also where nothing is known of it yet."""
        if (known := self.known(name)) is None:
            raise NotThere(f"search '{name}' has not begun yet; it is {self.state(name)}.")
        return known

    def state(self, name: str) -> str:
        """Of the queue where that knows it, else whether it ended."""
        entry = self.entry(name)
        if entry is not None:
            return entry.state
        known = self.known(name)
        return "ended" if known is not None and known.search.record.ended else "unfinished"

    def again(self, name: str, errand: Errand, begun_by: str) -> None:
        """A search waits to be gone on with. What a command line began is held to the same rules as a new plan."""
        if self.entry(name) is not None:
            self.queue.again(name, errand)
            return
        plan = allowed_code(self.begun(name).search.plan, self.settings)
        model, data = model_place(plan.model, self.settings), data_place(plan.data, self.settings)
        self.queue.add(name, replace(plan, model=model, data=data), begun_by, errand)

    @property
    def tasks(self) -> Any:
        return self.kept(("tasks", ""), lambda: self.apart.run(60, work.tasks))

    @property
    def methods(self) -> Any:
        return self.kept(("methods", ""), lambda: self.apart.run(300, work.methods))

    @cached_property
    def spaces(self) -> Mapping[str, Space]:
        """Those that come with the package, and the operator's as they were when they were first asked for."""
        return {name: declared_space(name) for name in (*named_spaces(), *self.settings.trusted_as("space"))}

    def kept(self, key: tuple[str, str], make: Callable[[], Any]) -> Any:
        """What was answered to this before; some who ask at once wait for one who makes it."""
        slot = self._lately[key]
        if slot.answer is not None:
            return slot.answer
        with self._asking, slot.lock:
            if slot.answer is None:
                slot.answer = make()
            return slot.answer

    def _runs(self, name: str) -> bool:
        entry = self.queue.entry(name)
        return entry is not None and entry.state == RUNNING
