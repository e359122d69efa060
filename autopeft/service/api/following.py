"""What happens in a search, as server-sent events: one for each event of the search, with its number as its id."""

import time
from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse

from autopeft.service.api.searches import require_queued
from autopeft.service.feeds import TOGETHER, written
from autopeft.service.office import Office
from autopeft.service.security import Here, Reader
from autopeft.service.shapes import Name, files
from autopeft.storage.queue import Entry
from autopeft.storage.tokens import Token

router = APIRouter(prefix="/searches", tags=["searches"])
_PING = 15
"""Seconds between signs of life."""
_SLOWEST = 30
"""Seconds for a client to take what it was sent; then it is let go, and may come again with `Last-Event-ID`."""
_TRUSTED = 2.0
"""Seconds for which a token is taken to be good that was good."""


@router.get(
    "/{name}/events",
    response_class=EventSourceResponse,
    responses=files("text/event-stream"),
    summary="Follow a search",
)
async def events(
    office: Here,
    token: Reader,
    name: Name,
    last_event_id: Annotated[int, Header(ge=0, le=2**31 - 1, description="Go on after this one.")] = 0,
    follow: Annotated[bool, Query(description="Wait for what comes; else end after what is there.")] = True,
) -> EventSourceResponse:
    """Kinds: state, doing, begun, baselines, trial-began, trial-reported, trial-ended, given-again, turned-away,
    confirming, trial-confirmed, over. Each holds the lines that a command line prints, and how the search stands. Ends
    where the search is deleted, or the token is revoked.
    """
    entry, after = await to_thread.run_sync(_place, office, name, last_event_id)
    told = _followed(office, entry, after, token) if follow else _there(office, entry, after)
    return EventSourceResponse(told, ping=_PING, send_timeout=_SLOWEST)


def _place(office: Office, name: str, after: int) -> tuple[Entry, int]:
    """A search, and the event after which somebody goes on: the last one at most. Raises NotThere."""
    entry = require_queued(office, name)
    latest = office.queue.latest(entry)
    return entry, min(after, 0 if latest is None else latest.number)


async def _followed(office: Office, entry: Entry, after: int, token: Token) -> AsyncIterator[bytes]:
    """What is there and all that comes, for as long as the token is good."""
    looked = time.monotonic()
    async for each in office.feeds.follow(entry, after):
        if time.monotonic() - looked > _TRUSTED:
            if await to_thread.run_sync(office.tokens.by_id, token.id) is None:
                return
            looked = time.monotonic()
        if each:
            yield each


async def _there(office: Office, entry: Entry, after: int) -> AsyncIterator[bytes]:
    """What is there."""
    while new := await to_thread.run_sync(office.queue.happened, entry, after, TOGETHER):
        yield b"".join(map(written, new))
        after = new[-1].number
