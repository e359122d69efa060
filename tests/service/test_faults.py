"""Faults done to services and what they run: no finished trial is lost, no search runs twice, the queue goes on."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.postgres import BINARIES, Postgres
from tests.service.test_whole import PATIENCE, PLAN, Running, serving
from tests.user import user_folder

pytestmark = pytest.mark.long
KILLS = 20
MANY = 50


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    pytest.importorskip("psycopg")
    if not BINARIES:
        pytest.skip("there is no PostgreSQL")
    started = Postgres()
    yield started
    started.stop()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "user").mkdir()
    return user_folder(tmp_path / "user")


def begin(service: Running, names: list[str], trials: int) -> None:
    plan = {**PLAN, "data": "reviews.csv", "methods": "bitfit,lora", "trials": trials}
    for name in names:
        service.json("POST", "/searches", {"plan": plan, "name": name})


def searches(service: Running) -> dict[int, str]:
    """Processes of searches, which outlive a service that is killed, and what each searches. One that has ended its
    search may be there for a while, beside that of the next.
    """
    told = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    found = [line for line in told.splitlines() if "-m autopeft.service.process" in line]
    logs = {pid: _log_of(pid) for pid in (int(line.split()[0]) for line in found)}
    return {pid: log.stem for pid, log in logs.items() if log.is_relative_to(service.place)}


def _log_of(pid: int) -> Path:
    """The file that a process writes to; none of one that is gone."""
    try:
        return Path(f"/proc/{pid}/fd/1").readlink()
    except OSError:
        return Path()


def finished(service: Running, name: str) -> dict[int, Any]:
    """The finished trials of a search by number; none before it has begun."""
    if not service.json("GET", f"/searches/{name}")["trials"]:
        return {}
    found = service.json("GET", f"/searches/{name}/trials")
    return {each["number"]: each["curve"] for each in found if each["status"] == "finished"}


def test_kills_at_random_lose_no_trial_and_the_queue_goes_on(place: Path) -> None:
    drawn, names, token, kept = random.Random(0), ["a", "b", "c", "d"], "", {}
    for number in range(KILLS + 1):
        with serving(place, token) as service:
            token = service.token
            if not number:
                begin(service, names, trials=8)
            for name in names:
                now = finished(service, name)
                assert {each: now.get(each) for each in kept.get(name, {})} == kept.get(name, {}), name
                kept[name] = now
            if number == KILLS:
                for name in names:
                    assert service.until(name, "ended", "failed")[-1]["state"] == "ended"
                    assert len(service.json("GET", f"/searches/{name}/trials")) == 8
                return
            time.sleep(drawn.uniform(1, 20))
            for name in names:
                kept[name] = finished(service, name)
            victims = searches(service)
            assert len({*victims.values()}) == len(victims), "a search runs twice"
            running = [each for each in service.json("GET", "/searches")["searches"] if each["state"] == "running"]
            assert len(running) <= 1, "two searches run at a time"
            if victims and drawn.random() < 0.5:
                os.kill(drawn.choice([*victims]), signal.SIGKILL)
            if drawn.random() < 0.5:
                service.process.kill()


def test_a_database_that_is_killed_comes_back_and_the_search_goes_on(place: Path, postgres: Postgres) -> None:
    with serving(place, storage=postgres.url) as service:
        begin(service, ["a"], trials=8)
        next(each for each in service.follow("a") if each["kind"] == "trial-ended")
        kept = finished(service, "a")
        postgres.kill()
        time.sleep(3)
        postgres.start()
        deadline = time.monotonic() + PATIENCE
        while service.json("GET", "/searches/a")["state"] != "ended":
            assert time.monotonic() < deadline
            if service.json("GET", "/searches/a")["state"] == "failed":
                service.json("POST", "/searches/a/resume")  # Its driver could not remember what it knew, and said so.
            time.sleep(1)
        now = finished(service, "a")
        assert {number: now[number] for number in kept} == kept
        assert len(now) <= len(service.json("GET", "/searches/a/trials")) == 8


def test_two_services_on_one_database_run_each_of_many_searches_once(place: Path, postgres: Postgres) -> None:
    names = [f"s{number}" for number in range(MANY)]
    with serving(place, storage=postgres.url) as one:
        begin(one, names, trials=1)
        with serving(place, one.token, postgres.url) as two:
            for name, service in zip(names, (one, two) * MANY, strict=False):
                heard = [each for each in service.until(name, "ended", "failed") if each["kind"] == "state"]
                assert [each["state"] for each in heard] == ["waiting", "running", "ended"], name
                assert len(two.json("GET", f"/searches/{name}/trials")) == 1
            assert two.json("GET", "/health") == {"status": "ok", "running": 0, "waiting": 0}
