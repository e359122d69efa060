"""How a service bears a team, and what that costs a search that trains beside it.

A search trains on one core while 100 clients follow it and 20 requests a second read lists, fronts and reports from the
other one, in turns with as long without any, after which the clients come again all at once and go on. Told are lost
and doubled events, how long it takes until all clients follow, the 95th percentile of answers from then on, the CPU
seconds of training for each 1,000 examples with and without the load, and the service's memory over many requests.

    python benchmarks/service_load.py --seconds 60 --requests 10000
"""

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
FOLLOWERS, RATE = 100, 20
PLAN = {
    "model": "model",
    "data": "reviews.csv",
    "space": "quick",
    "methods": "bitfit",
    "max_length": 32,
    "trials": 5000,
}
MANY = 30
"""Times the rows of the small data set."""
PAGE = 4096
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Service:
    """A service that runs, and whom it takes us for."""

    pid: int
    port: int
    token: str
    taken: list[float] = field(default_factory=list)
    """Seconds of each answer."""

    async def ask(self, path: str, verb: str = "GET", body: Any = None) -> bytes:
        """The body of an answer, on a connection of its own."""
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        sent = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{verb} /api/v1{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {self.token}\r\n"
        )
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n".encode() + sent)
        whole = await reader.read()
        writer.close()
        self.taken.append(time.perf_counter() - began)
        told, _, found = whole.partition(b"\r\n\r\n")
        if not told.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
            raise SystemExit(f"{path}: {told[:100]!r} {found[:300]!r}")
        return found

    async def follow(self, name: str, heard: list[int], follows: asyncio.Event) -> None:
        """Hears of a search for as long as it is let, after what it has heard, as browsers do that come again."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
        head = f"GET /api/v1/searches/{name}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n"
        writer.write(f"{head}Last-Event-ID: {len(heard)}\r\n\r\n".encode())
        try:
            while line := await reader.readline():
                follows.set()
                if line.startswith(b"id: "):
                    heard.append(int(line[4:]))
        finally:
            writer.close()

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE


@contextmanager
def serving(place: Path) -> Iterator[Service]:
    data = import_module("tests.user").user_folder(place) / "reviews.csv"
    heading, *rows = data.read_text(encoding="utf-8").splitlines()
    # So that a trial takes seconds, and not a moment.
    many = [f"w{copy} {row}" for copy in range(MANY) for row in rows]
    data.write_text("\n".join([heading, *many]) + "\n", encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--storage", f"sqlite:///{place}/searches.db", "--folder", f"{place}/runs", "--workers", "0"]
    roots = ["--data-root", str(place), "--model-root", str(place), "--port", str(port)]
    command = [sys.executable, "-c", "from autopeft.cli import main; main()", "serve", *where, *roots]
    with (place / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        token = next(line.strip() for line in process.stdout if line.strip().startswith("apt_"))
        time.sleep(5)
        yield Service(process.pid, port, token)
    finally:
        process.terminate()
        process.wait(120)


def children(pid: int) -> list[int]:
    told = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in told.stdout.splitlines() if "autopeft.service.process" in line]


def pinned(pid: int, cores: set[int]) -> None:
    """The process with all of its threads."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def cpu(pid: int) -> float:
    """Seconds that a process has computed."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / TICKS


async def examples(service: Service, name: str, after: int) -> tuple[int, int]:
    """How many were trained on in all trials that ended after an event, and the number of the last event."""
    seen, last = 0, after
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=2**24)
    head = f"GET /api/v1/searches/{name}/events?follow=false HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    writer.write(f"{head}Authorization: Bearer {service.token}\r\nLast-Event-ID: {after}\r\n\r\n".encode())
    while line := await reader.readline():
        if line.startswith(b"data: "):
            told = json.loads(line[6:])
            last = told["number"]
            if told["kind"] == "trial-ended" and (curve := told["trial"]["curve"]):
                seen += curve[-1]["step"] * told["trial"]["candidate"]["training"]["batch_size"]
    writer.close()
    return seen, last


async def loaded(service: Service, name: str, seconds: float) -> None:
    """20 requests a second of what a team looks at."""
    paths = ("/searches", f"/searches/{name}/front", f"/searches/{name}/report.html", f"/searches/{name}")
    asked: set[asyncio.Task[bytes]] = set()
    for at in range(round(seconds * RATE)):
        asked.add(asyncio.create_task(service.ask(paths[at % len(paths)])))
        await asyncio.sleep(1 / RATE)
    await asyncio.gather(*asked)


async def measure(service: Service, seconds: float, requests: int) -> None:
    name = json.loads(await service.ask("/searches", "POST", {"plan": PLAN}))["name"]
    while not (running := children(service.pid)) or not (await examples(service, name, 0))[0]:
        if (now := json.loads(await service.ask(f"/searches/{name}")))["state"] == "failed":
            raise SystemExit(now["reason"])
        await asyncio.sleep(1)
    (trains,) = running
    pinned(trains, {0})
    pinned(service.pid, {1})
    os.sched_setaffinity(0, {1})
    heard: list[list[int]] = [[] for _ in range(FOLLOWERS)]
    told: dict[bool, list[tuple[float, int]]] = {False: [], True: []}
    """CPU seconds and examples of each turn."""
    taken: list[float] = []
    _, last = await examples(service, name, 0)
    turns = 4
    for turn in range(2 * turns):
        busy, before = bool(turn % 2), cpu(trains)
        service.taken.clear()
        if busy:
            came, follows = time.perf_counter(), [asyncio.Event() for _ in heard]
            followers = [asyncio.create_task(service.follow(name, *each)) for each in zip(heard, follows, strict=True)]
            await asyncio.gather(*(each.wait() for each in follows))
            print(f"{len(heard)} clients follow after {time.perf_counter() - came:.2f} s")
            await loaded(service, name, seconds / turns)
            taken += service.taken
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)
            gaps = sum(each != list(range(1, len(each) + 1)) for each in heard)
            most, least = max(map(len, heard)), min(map(len, heard))
            print(f"followers with a lost or doubled event: {gaps}; events {most}, behind {most - least}")
        else:
            await asyncio.sleep(seconds / turns)
        seen, last = await examples(service, name, last)
        told[busy].append((cpu(trains) - before, seen))
    cut = statistics.quantiles(taken, n=20)[-1]
    print(f"{len(taken)} answers at {RATE}/s: median {statistics.median(taken):.3f} s, 95th percentile {cut:.3f} s")
    for busy, turned in told.items():
        values = " ".join(f"{1000 * used / max(seen, 1):.3f}" for used, seen in turned)
        print(f"training {'beside the load' if busy else 'alone          '}: {values} CPU s for 1,000 examples")
    # Of all turns together: each counts trials that began in the one before.
    whole = {busy: sum(used for used, _ in turned) / sum(seen for _, seen in turned) for busy, turned in told.items()}
    print(f"training slowed by {whole[True] / whole[False] - 1:+.1%}")
    await service.ask(f"/searches/{name}/stop", "POST")
    paths = ("/searches", f"/searches/{name}/front", f"/searches/{name}/trials", f"/searches/{name}/report.html")
    for done in range(0, requests, 20):
        if done % max(requests // 5 // 20 * 20, 20) == 0:
            print(f"memory after {done} requests: {service.memory / 2**20:.0f} MiB")
        await asyncio.gather(*(service.ask(paths[at % len(paths)]) for at in range(20)))
    print(f"memory after {requests} requests: {service.memory / 2**20:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="Of load, and as many without.")
    parser.add_argument("--requests", type=int, default=10_000, help="Over which memory is looked at.")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as service:
        asyncio.run(measure(service, given.seconds, given.requests))


if __name__ == "__main__":
    main()
