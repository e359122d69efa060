"""Events of searches for those who follow them: one reader of the database for each search, however many follow it.

Whoever follows has a place of his own in the events, which have numbers without gaps: he misses none and hears none
twice, however slow he is and wherever he went on from. Nothing is held of a search that nobody follows.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from anyio import to_thread

from autopeft.errors import AutopeftError
from autopeft.storage.queue import Happened, Queue

_PAUSE = 0.5
"""Seconds between looks at the database."""
_AT_ONCE = 1000


class _Feed:
    """The events of one search, from the first that anybody who follows it asked for."""

    def __init__(self, queue: Queue, id: int) -> None:
        self._queue, self._id = queue, id
        self.events: list[Happened] = []
        self.readers = 0
        self.more = asyncio.Condition()
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            with suppress(AutopeftError):  # The database may be back soon.
                new = await to_thread.run_sync(self._queue.happened, self._id, len(self.events), _AT_ONCE)
                if new:
                    self.events += new
                    async with self.more:
                        self.more.notify_all()
                    continue
            await asyncio.sleep(_PAUSE)


class Feeds:
    """The feeds of one service. Used from its event loop alone."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._feeds: dict[int, _Feed] = {}

    async def follow(self, id: int, after: int) -> AsyncIterator[Happened]:
        """The events of a search after one, those that are there and all that come; it ends when nobody listens."""
        feed = self._feeds.get(id)
        if feed is None:
            feed = self._feeds[id] = _Feed(self._queue, id)
        feed.readers += 1
        try:
            while True:
                async with feed.more:
                    while len(feed.events) <= after:
                        await feed.more.wait()
                while after < len(feed.events):
                    yield feed.events[after]
                    after += 1
        finally:
            feed.readers -= 1
            if not feed.readers:
                feed.task.cancel()
                del self._feeds[id]
