"""Events for those who follow a search: each hears its own search, for as long as it is there and he may."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.service import feeds
from autopeft.service.api import following
from autopeft.service.office import Office
from autopeft.service.settings import Settings
from autopeft.storage.holding import Holding
from autopeft.storage.queue import RUNNING, STOPPED, WAITING, Entry
from autopeft.storage.tokens import READ

PLAN = Plan("mini", "d.csv")


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setattr(feeds, "_PAUSE", 0.02)
    with closing(Office(Settings(storage=f"sqlite:///{tmp_path}/searches.db", folder=tmp_path / "runs"))) as made:
        yield made


def begun(office: Office, name: str) -> Entry:
    office.queue.add(name, PLAN, "somebody")
    entry = office.entry(name)
    assert entry is not None
    return entry


async def heard(told: AsyncIterator[bytes], count: int) -> list[str]:
    """States of so many events, or of fewer where it ends before."""
    found: list[str] = []
    while len(found) < count:
        try:
            lines = (await asyncio.wait_for(anext(told), 10)).decode().splitlines()
            found += [json.loads(line[6:])["state"] for line in lines if line.startswith("data: ")]
        except StopAsyncIteration:
            break
    return found


def test_a_deleted_search_is_over_and_one_that_got_its_number_tells_its_own(office: Office) -> None:
    async def follow() -> None:
        entry = begun(office, "a")
        async with aclosing(office.feeds.follow(entry, 0)) as told:
            assert await heard(told, 1) == [WAITING]
            office.queue.stop("a")
            assert await heard(told, 1) == [STOPPED]
            office.queue.remove("a")
            other = begun(office, "b")
            assert other.id == entry.id
            Holding(office.opened).take("here", 1)
            async with aclosing(office.feeds.follow(other, 0)) as its_own:
                assert await heard(its_own, 2) == [WAITING, RUNNING]
            assert await heard(told, 9) == []

    asyncio.run(follow())


def test_a_fault_in_reading_is_late_events_and_nobody_who_goes_on_from_a_later_one_waits_for_ever(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_LATE", 0.02)
    happened, faults = office.queue.happened, [ZeroDivisionError(), AutopeftError("the database is away.")]

    def fails_at_first(*asked: Any) -> Any:
        if faults:
            raise faults.pop()
        return happened(*asked)

    async def follow() -> None:
        entry, after = following._place(office, begun(office, "a").name, 2**31 - 1)
        monkeypatch.setattr(office.queue, "happened", fails_at_first)
        async with aclosing(office.feeds.follow(entry, after)) as told:
            office.queue.stop("a")
            assert await heard(told, 1) == [STOPPED]
        assert not faults

    asyncio.run(follow())


def test_whose_token_is_revoked_hears_no_more(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_TRUSTED", -1.0)

    async def follow() -> None:
        entry = begun(office, "a")
        office.tokens.add("dashboard", READ)
        (token,) = office.tokens.all()
        async with aclosing(following._followed(office, entry, 0, token)) as told:
            assert await heard(told, 1) == [WAITING]
            office.tokens.revoke("dashboard")
            office.queue.stop("a")
            assert await heard(told, 9) == []

    asyncio.run(follow())


def test_whose_token_is_revoked_is_let_go_also_where_nothing_happens(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_TRUSTED", -1.0)
    monkeypatch.setattr(feeds, "QUIET", 0.05)

    async def follow() -> None:
        entry = begun(office, "a")
        office.tokens.add("dashboard", READ)
        (token,) = office.tokens.all()
        async with aclosing(following._followed(office, entry, 1, token)) as told:
            asyncio.get_running_loop().call_later(0.3, office.tokens.revoke, "dashboard")
            assert await heard(told, 1) == []

    asyncio.run(follow())
