"""The queue of the service: one search, one process; nothing is lost, whoever is killed."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta

import pytest

from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.storage import holding
from autopeft.storage.holding import MOST_ATTEMPTS, Holding
from autopeft.storage.opened import Opened
from autopeft.storage.queue import ENDED, FAILED, RUNNING, STATE, STOPPED, WAITING, Errand, Happened, NotNow, Queue
from autopeft.storage.repository import NameTaken, Repository
from autopeft.storage.tokens import READ, RUN, Tokens
from tests.reports.records import record

PLAN = Plan("mini", "d.csv")


@pytest.fixture
def opened(url: str) -> Iterator[Opened]:
    with closing(Opened(url)) as opened:
        yield opened


def filled(opened: Opened, *names: str) -> tuple[Queue, Holding]:
    queue = Queue(opened)
    for name in names:
        queue.add(name, PLAN, "somebody")
    return queue, Holding(opened)


def happened(queue: Queue, name: str, **asked: int) -> Sequence[Happened]:
    entry = queue.entry(name)
    assert entry is not None
    told = queue.happened(entry, **asked)
    assert told is not None
    return told


def states(queue: Queue) -> dict[str, str]:
    return {each.name: each.state for each in queue.entries()}


def test_searches_run_in_their_order_and_so_many_at_once_on_each_host(opened: Opened) -> None:
    queue, holds = filled(opened, "a", "b", "c", "d")
    queue.move("c", 1)
    assert [(each.name, each.place) for each in queue.entries()] == [("c", 1), ("a", 2), ("b", 3), ("d", 4)]
    given = [holds.take("here", 2) for _ in range(3)]
    assert [each.name for each in given if each] == ["c", "a"]
    elsewhere = holds.take("elsewhere", 1)
    assert elsewhere is not None
    assert elsewhere.name == "b"
    assert given[0] is not None
    holds.finish(given[0], ENDED)
    assert states(queue) == {"d": WAITING, "c": ENDED, "a": RUNNING, "b": RUNNING}


def test_two_services_take_every_search_once(opened: Opened, url: str) -> None:
    filled(opened, *(f"s{number}" for number in range(12)))
    taken: list[str] = []

    def take() -> None:
        with closing(Opened(url)) as its_own:
            while (held := Holding(its_own).take("here", 100)) is not None:
                taken.append(held.name)

    services = [threading.Thread(target=take) for _ in range(3)]
    for each in services:
        each.start()
    for each in services:
        each.join()
    assert sorted(taken) == sorted(f"s{number}" for number in range(12))


def test_two_services_on_one_host_count_together(opened: Opened, url: str) -> None:
    filled(opened, *(f"s{number}" for number in range(6)))
    taken: list[object] = []

    def take() -> None:
        with closing(Opened(url)) as its_own:
            taken.append(Holding(its_own).take("here", 2))

    services = [threading.Thread(target=take) for _ in range(4)]
    for each in services:
        each.start()
    for each in services:
        each.join()
    assert sum(each is not None for each in taken) == 2


def test_a_search_whose_process_was_killed_waits_again_and_the_killed_one_has_lost_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, holds = filled(opened, "a")
    monkeypatch.setattr(holding, "LEASE", timedelta(seconds=-1))
    killed = holds.take("here", 1)
    monkeypatch.undo()
    again = holds.take("here", 1)
    assert killed is not None
    assert again is not None
    assert holds.beat(killed) is None
    holds.finish(killed, ENDED)
    holds.tell(killed, "doing", {})
    assert states(queue) == {"a": RUNNING}
    assert holds.beat(again) == ""
    told = happened(queue, "a")
    assert [each.told.get("state") for each in told] == [WAITING, RUNNING, WAITING, RUNNING]


def test_a_search_whose_processes_all_die_fails_and_one_that_gets_on_does_not(opened: Opened) -> None:
    queue, holds = filled(opened, "a")
    for _ in range(MOST_ATTEMPTS + 2):
        held = holds.take("here", 1)
        assert held is not None
        holds.tell(held, "trial-ended", {}, progress=True)
        holds.died(held)
    for _ in range(MOST_ATTEMPTS):
        assert states(queue) == {"a": WAITING}
        held = holds.take("here", 1)
        assert held is not None
        holds.died(held)
    entry = queue.entry("a")
    assert entry is not None
    assert entry.state == FAILED
    assert "ended 3 times without a word" in entry.reason


def test_a_search_is_stopped_gone_on_with_and_removed(opened: Opened) -> None:
    queue, holds = filled(opened, "a", "b")
    queue.stop("b")
    held = holds.take("here", 1)
    assert held is not None
    with pytest.raises(NotNow, match="'a' is running; stop it first"):
        queue.remove("a")
    with pytest.raises(NotNow, match="'a' is running already"):
        queue.again("a", Errand())
    queue.stop("a")
    assert holds.beat(held) == STOPPED
    holds.died(held)
    assert states(queue) == {"a": STOPPED, "b": STOPPED}
    queue.again("a", Errand(trials=90))
    held = holds.take("here", 1)
    assert held is not None
    assert held.errand == Errand(trials=90)
    queue.remove("b")
    with pytest.raises(AutopeftError, match="unknown search 'b'"):
        queue.stop("b")


def test_a_name_is_taken_by_a_search_of_either_kind(opened: Opened, url: str) -> None:
    queue, _ = filled(opened, "a")
    with Repository(url) as repository:
        repository.create(record())
    for name in ("a", record().name):
        with pytest.raises(NameTaken, match="exists already"):
            queue.add(name, PLAN, "somebody")
    queue.add(record().name, PLAN, "somebody", Errand(seeds=3))
    assert states(queue) == {"a": WAITING, record().name: WAITING}


def test_events_have_numbers_without_gaps_whoever_tells_them(opened: Opened, url: str) -> None:
    queue, holds = filled(opened, "a")
    held = holds.take("here", 1)
    assert held is not None

    def tell() -> None:
        with closing(Opened(url)) as its_own:
            for _ in range(8):
                Holding(its_own).tell(held, "doing", {})

    tellers = [threading.Thread(target=tell) for _ in range(3)]
    for each in tellers:
        each.start()
    for each in tellers:
        each.join()
    assert [each.number for each in happened(queue, "a")] == list(range(1, 27))
    assert [each.number for each in happened(queue, "a", after=20, most=3)] == [21, 22, 23]
    assert happened(queue, "a")[0].kind == STATE


def test_a_deleted_search_is_over_also_where_another_one_has_its_number(opened: Opened) -> None:
    queue, _ = filled(opened, "a")
    gone = queue.entry("a")
    assert gone is not None
    queue.stop("a")
    queue.remove("a")
    assert queue.happened(gone) is None
    queue.add("b", PLAN, "somebody")
    assert queue.happened(gone) is None
    assert [each.told["state"] for each in happened(queue, "b")] == [WAITING]


def test_processes_that_end_in_good_order_or_could_not_begin_are_not_counted_as_deaths(opened: Opened) -> None:
    queue, holds = filled(opened, "a")
    for _ in range(MOST_ATTEMPTS + 1):
        held = holds.take("here", 1)
        assert held is not None
        holds.finish(held, WAITING)
    for _ in range(MOST_ATTEMPTS + 1):
        held = holds.take("here", 1)
        assert held is not None
        holds.give_back(held)
    held = holds.take("here", 1)
    assert held is not None
    holds.died(held)
    assert states(queue) == {"a": WAITING}


def test_a_token_is_told_once_kept_as_a_hash_and_nobodys_after_it_is_revoked(opened: Opened) -> None:
    tokens = Tokens(opened)
    told = tokens.add("ci", READ)
    other = tokens.add("laptop", RUN)
    mine = tokens.of(told)
    assert mine is not None
    assert (mine.name, mine.role) == ("ci", READ)
    assert told not in repr(tokens.all())
    assert tokens.by_id(mine.id) == mine
    tokens.revoke("ci")
    assert tokens.of(told) is None
    assert tokens.by_id(mine.id) is None
    assert tokens.of(other) is not None
    for wrong in ("", "apt_", "' OR 1=1 --", "\ud800"):
        assert tokens.of(wrong) is None


@pytest.mark.parametrize(("name", "role", "said"), [("a", "admin", "unknown role"), ("<b>", READ, "cannot be named")])
def test_a_token_has_a_role_and_a_plain_name(opened: Opened, name: str, role: str, said: str) -> None:
    with pytest.raises(AutopeftError, match=said):
        Tokens(opened).add(name, role)
