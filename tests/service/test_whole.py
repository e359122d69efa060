"""The real service, as its operator starts it: a search from the upload to the winner, and kills on the way."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import children_of
from tests.user import user_folder

ROOT = Path(__file__).parents[2]
PATIENCE = 600
PLAN = {"model": "model", "space": "quick", "methods": "bitfit", "max_length": 16, "trials": 1}


class Running:
    """A service that runs, and one who asks it."""

    def __init__(self, place: Path, port: int, process: "subprocess.Popen[str]", token: str) -> None:
        self.place, self.process, self.token = place, process, token
        self.address = f"http://127.0.0.1:{port}"
        self._url = f"{self.address}/api/v1"

    def ask(self, verb: str, path: str, body: Any = None, **headers: str) -> bytes:
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"content-type": "application/json"} if sent is not body else {}
        headers = {"authorization": f"Bearer {self.token}", **kind, **headers}
        request = urllib.request.Request(self._url + path, sent, headers, method=verb)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return bytes(answer.read())

    def json(self, verb: str, path: str, body: Any = None) -> Any:
        return json.loads(self.ask(verb, path, body))

    def follow(self, name: str, after: int = 0) -> Iterator[dict[str, Any]]:
        headers = {"authorization": f"Bearer {self.token}", "last-event-id": str(after)}
        request = urllib.request.Request(f"{self._url}/searches/{name}/events", headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as stream:
            for line in stream:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    def until(self, name: str, *states: str) -> list[dict[str, Any]]:
        """What happens until a search has one of these states."""
        heard = []
        for event in self.follow(name):
            heard.append(event)
            if event["kind"] == "state" and event["state"] in states:
                break
        return heard

    def answers(self) -> bool:
        try:
            return bool(self.json("GET", "/health"))
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def serving(place: Path, token: str = "", storage: str = "") -> Iterator[Running]:
    """The service of a folder, with its database if there is no other; it prints a token where there is none."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    storage = storage or f"sqlite:///{place}/searches.db"
    where = ("--storage", storage, "--folder", str(place / "runs"), "--workers", "0")
    roots = ("--data-root", str(place), "--model-root", str(place), "--port", str(port))
    command = [sys.executable, "-c", "from autopeft.cli import main; main()", "serve", *where, *roots]
    with (place / "service.log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
    assert process.stdout is not None
    while not token:
        line = process.stdout.readline()
        assert line, (place / "service.log").read_text()
        token = line.strip() if line.strip().startswith("apt_") else ""
    running = Running(place, port, process, token)
    try:
        while not running.answers():
            assert process.poll() is None, (place / "service.log").read_text()
            time.sleep(0.1)
        yield running
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "team").mkdir()
    return user_folder(tmp_path / "team")


@pytest.mark.long
def test_a_search_goes_from_an_upload_to_a_winner_that_can_be_taken_away(place: Path) -> None:
    with serving(place) as service:
        rows = (place / "reviews.csv").read_bytes()
        data = json.loads(service.ask("POST", "/uploads?name=reviews.csv", rows))["data"]
        asked = {"plan": {**PLAN, "data": data}, "name": "whole"}
        assert service.json("POST", "/searches", asked)["state"] in ("waiting", "running")
        heard = service.until("whole", "ended", "failed")
        assert heard[-1]["state"] == "ended", heard[-1]
        assert [each["number"] for each in heard] == list(range(1, len(heard) + 1))
        assert {"begun", "baselines", "trial-began", "trial-reported", "trial-ended", "over"} <= {
            each["kind"] for each in heard
        }
        assert len(service.json("GET", "/searches/whole/front")) == 1
        with zipfile.ZipFile(io.BytesIO(service.ask("GET", "/searches/whole/trials/1/winner.zip"))) as winner:
            assert {"whole-1/README.md", "whole-1/autopeft.json"} <= set(winner.namelist())
        service.json("DELETE", "/searches/whole")
        assert service.json("GET", "/searches")["total"] == 0
    assert service.process.returncode == 0
    assert not list((place / "runs").glob("export-*"))
    assert not list((place / "runs" / "uploads").iterdir())
    assert service.token not in (place / "service.log").read_text()


@pytest.mark.long
def test_a_kill_of_the_service_or_of_a_search_loses_nothing_and_runs_nothing_twice(place: Path) -> None:
    plan = {**PLAN, "data": "reviews.csv", "trials": 4, "methods": "bitfit,lora"}
    with serving(place) as service:
        for name in ("first", "second"):
            service.json("POST", "/searches", {"plan": plan, "name": name})
        next(each for each in service.follow("first") if each["kind"] == "trial-ended")
        os.kill(service.process.pid, signal.SIGKILL)
    with serving(place, service.token) as again:
        assert [each["state"] for each in again.until("first", "ended") if each["kind"] == "state"] == [
            *("waiting", "running", "ended")
        ]
        next(each for each in again.follow("second") if each["kind"] == "trial-began")
        children = children_of(again.process.pid)
        assert children
        for child in children:
            os.kill(child, signal.SIGKILL)
        heard = again.until("second", "ended", "failed")
        assert [each["state"] for each in heard if each["kind"] == "state"] == [
            *("waiting", "running", "waiting", "running", "ended")
        ]
        assert len(again.json("GET", "/searches/second/trials")) == 4
        again.json("POST", "/searches/second/extend", {"trials": 6})
        next(each for each in again.follow("second", len(heard)) if each["kind"] == "trial-began")
        again.json("POST", "/searches/second/stop")
        assert again.until("second", "stopped")
        again.json("POST", "/searches/second/resume")
        next(
            each for each in again.follow("second", len(heard)) if each["kind"] == "state" and each["state"] == "ended"
        )
        assert len(again.json("GET", "/searches/second/trials")) == 6
