"""What was asked for lately: a place for each key, the least lately asked for forgotten where there are many."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Place = TypeVar("Place")


class Lately(Generic[Place]):
    """So many places at `most`; asked from many threads, which get the same place for the same key."""

    def __init__(self, empty: Callable[[], Place], most: int) -> None:
        self._empty, self._most = empty, most
        self._places: OrderedDict[Hashable, Place] = OrderedDict()
        self._looking = threading.Lock()

    def __getitem__(self, key: Hashable) -> Place:
        """The place of a key, an empty one where there was none."""
        with self._looking:
            place = self._places.setdefault(key, self._empty())
            self._places.move_to_end(key)
            if len(self._places) > self._most:
                self._places.popitem(last=False)
            return place

    def forget(self, key: Hashable) -> None:
        with self._looking:
            self._places.pop(key, None)
