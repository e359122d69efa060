"""Events of searches for those who follow them: one reader of the database for each search, however many follow it.

Whoever follows has a place of his own in the events, which have numbers without gaps: he misses none and hears none
twice, however slow he is and wherever he went on from. Nothing is held of a search that nobody follows, and one that is
deleted is over for all who follow it.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import datetime

from anyio import to_thread
from sse_starlette import ServerSentEvent

from autopeft.errors import AutopeftError
from autopeft.storage.queue import Entry, Happened, Queue

_PAUSE, _LATE = 0.5, 2.0
"""Seconds between looks at the database, and after one that failed."""
_AT_ONCE = 1000
_log = logging.getLogger(__name__)
QUIET = 15.0
"""Seconds after which those who follow are asked whether they may yet."""
TOGETHER = 100
"""Events that are sent as one piece."""


def written(happened: Happened) -> bytes:
    """An event as it is sent: written once, however many hear of it."""
    whole = {"number": happened.number, "at": happened.at.isoformat(), "kind": happened.kind, **happened.told}
    return ServerSentEvent(json.dumps(whole), event=happened.kind, id=str(happened.number)).encode()


class _Feed:
    """The events of one search, from the first that anybody who follows it asked for."""

    def __init__(self, queue: Queue, entry: Entry) -> None:
        self._queue, self._entry = queue, entry
        self.events: list[bytes] = []
        self.over = False
        self.readers = 0
        self.more = asyncio.Condition()
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while not self.over:
            try:
                new = await to_thread.run_sync(self._queue.happened, self._entry, len(self.events), _AT_ONCE)
                self.events += map(written, new or ())
            except Exception as error:  # The database may be back soon; a defect is told, and ends nobody's events.
                _log.warning("events are late: %s", error, exc_info=not isinstance(error, AutopeftError))
                await asyncio.sleep(_LATE)
                continue
            self.over = new is None
            if new or self.over:
                async with self.more:
                    self.more.notify_all()
            else:
                await asyncio.sleep(_PAUSE)


class Feeds:
    """The feeds of one service. Used from its event loop alone."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._feeds: dict[tuple[int, datetime], _Feed] = {}

    async def follow(self, entry: Entry, after: int) -> AsyncIterator[bytes]:
        """The events of a search after one, those that are there and all that come, until it is deleted; some together,
        and none where none came for a while. It ends when nobody listens.
        """
        key = entry.id, entry.created
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = _Feed(self._queue, entry)
        feed.readers += 1
        try:
            while not feed.over or after < len(feed.events):
                try:
                    async with asyncio.timeout(QUIET), feed.more:
                        while len(feed.events) <= after and not feed.over:
                            await feed.more.wait()
                except TimeoutError:
                    yield b""
                while new := feed.events[after : after + TOGETHER]:
                    yield b"".join(new)
                    after += len(new)
        finally:
            feed.readers -= 1
            if not feed.readers:
                feed.task.cancel()
                del self._feeds[key]
