"""What happens in a search, as server-sent events: one for each event of the search, with its number as its id."""

import json
from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from autopeft.service.api.searches import require_queued
from autopeft.service.security import Here, Reader
from autopeft.service.shapes import files
from autopeft.storage.queue import Happened

router = APIRouter(prefix="/searches", tags=["searches"])
_PING = 15
"""Seconds between signs of life."""
_SLOWEST = 30
"""Seconds for a client to take what it was sent; then it is let go, and may come again with `Last-Event-ID`."""
_AT_ONCE = 1000


@router.get(
    "/{name}/events",
    response_class=EventSourceResponse,
    responses=files("text/event-stream"),
    summary="Follow a search",
)
async def events(
    office: Here,
    _: Reader,
    name: str,
    last_event_id: Annotated[int, Header(ge=0, le=2**31 - 1, description="Go on after this one.")] = 0,
    follow: Annotated[bool, Query(description="Wait for what comes; else end after what is there.")] = True,
) -> EventSourceResponse:
    """Kinds: state, doing, begun, baselines, trial-began, trial-reported, trial-ended, given-again, turned-away,
    confirming, trial-confirmed, over. Each holds the lines that a command line prints, and how the search stands.
    """
    await to_thread.run_sync(require_queued, office, name)
    entry = await to_thread.run_sync(office.queue.entry, name)
    id = entry.id if entry is not None else 0

    async def stream() -> AsyncIterator[ServerSentEvent]:
        if follow:
            async for each in office.feeds.follow(id, last_event_id):
                yield _sent(each)
            return
        after = last_event_id
        while new := await to_thread.run_sync(office.queue.happened, id, after, _AT_ONCE):
            for each in new:
                yield _sent(each)
            after = new[-1].number

    return EventSourceResponse(stream(), ping=_PING, send_timeout=_SLOWEST)


def _sent(happened: Happened) -> ServerSentEvent:
    whole = {"number": happened.number, "at": happened.at.isoformat(), "kind": happened.kind, **happened.told}
    return ServerSentEvent(json.dumps(whole), event=happened.kind, id=str(happened.number))
