"""The command line against a service: the same output as where the search ran, and answers to what goes wrong."""

import io
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from autopeft.cli.remote import Server
from autopeft.events import Begun, Ended, Event, TrialBegan, TrialEnded
from autopeft.reports.standing import Standing
from autopeft.reports.telling import told
from autopeft.storage.holding import Holding
from autopeft.storage.queue import ENDED, FAILED
from autopeft.storage.repository import Repository
from tests.reports.records import record
from tests.service.conftest import Service
from tests.service.test_api import remembered
from tests.test_cli import run


@pytest.fixture
def address(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the service listens, on this machine; the environment has a token of one who may run."""
    server = uvicorn.Server(uvicorn.Config(service.client.app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    monkeypatch.setenv("AUTOPEFT_TOKEN", service.runner["authorization"].removeprefix("Bearer "))
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def test_searches_are_listed_reported_and_selected_as_where_they_ran(service: Service, address: str) -> None:
    name = remembered(service)
    here = ("--storage", service.settings.storage)
    for command in (
        ("list",),
        ("report", name, "--format", "csv"),
        ("report", name, "--format", "json"),
        ("report",),
        ("select", name, "--memory", "450MiB"),
    ):
        local, served = run(*command, *here), run("--server", address, *command)
        assert served.exit_code == local.exit_code == 0, served.output
        assert served.stdout == local.stdout.replace(f" --storage {service.settings.storage}", "")


def test_a_winner_is_exported_to_a_folder_of_this_machine(
    service: Service, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = remembered(service)

    def export(_: float, __: Any, *, to: str, form: str, **___: Any) -> str:
        file = Path(to) / "winner.zip"
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr(f"{name}-1/README.md", form)
            packed.writestr("../../outside", "of the folder")
        return str(file)

    monkeypatch.setattr(service.office.apart, "run", export)
    winner = tmp_path / "place" / "winner"
    done = run("--server", address, "export", name, 1, "--to", winner, "--merge")
    assert done.exit_code == 0, done.output
    assert (winner / "README.md").read_text() == "merged"
    assert not (tmp_path / "outside").exists()
    assert "autopeft.load" in done.stdout
    assert "not an empty folder" in run("--server", address, "export", name, 1, "--to", winner).stderr
    moved = run("--server", address, "export", name, 1, "--to", tmp_path / "b", "--model", "elsewhere")
    assert "--model is not for a service" in moved.stderr


def process(service: Service, state: str) -> None:
    """Runs what waits, as far as those see it who follow it."""
    holding = Holding(service.office.opened)
    while (held := holding.take("here", 1)) is None:
        time.sleep(0.05)
    if state == FAILED:
        holding.finish(held, FAILED, "the model 'x' has no layers.")
        return
    whole = record()
    standing = Standing(0.0)
    with Repository(service.settings.storage) as repository:
        repository.create(replace(whole, name=held.name))
    events: list[Event] = [Begun(replace(whole, trials=(), ended=None)), TrialBegan(whole.trials[0])]
    for event in (*events, *map(TrialEnded, whole.trials[:7]), Ended(whole)):
        standing = standing.after(event, 0.0)
        if said := told(event, standing, 0.0):
            holding.tell(held, *said)
    holding.finish(held, ENDED)


@pytest.mark.parametrize(("state", "code"), [(ENDED, 0), (FAILED, 2)])
def test_a_search_is_begun_there_with_a_file_of_this_machine_and_shown_as_it_goes(
    service: Service, address: str, tmp_path: Path, state: str, code: int
) -> None:
    data = tmp_path / "mine.csv"
    data.write_text("text,label\nfine,good\npoor,bad\n")
    thread = threading.Thread(target=process, args=(service, state))
    thread.start()
    done = run("--server", address, "search", "--model", "model", "--data", data, "--trials", 8, "--name", "mine")
    thread.join()
    assert done.exit_code == code, done.output
    entry = service.office.queue.entry("mine")
    assert Path(entry.plan.data).parent.parent == service.settings.uploads
    if state == FAILED:
        assert "the model 'x' has no layers." in done.stderr
        return
    assert "training #1" in done.stderr
    assert "[7/8]" in done.stderr
    assert "Search mine" in done.stdout
    assert f"autopeft --server {address} report mine" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("report", "none"), "unknown search 'none'"),
        (("search", "--model", "/etc", "--data", "reviews.csv"), "in the folders that this service reads"),
        (("search", "--model", "m", "--data", "d", "--workers", "2"), "--workers is for the operator"),
        (("search", "--demo"), "leave out --server"),
        (("resume",), "--server is for search, list, report, select, export"),
    ],
)
def test_what_a_service_refuses_is_told_in_its_words(address: str, arguments: tuple[str, ...], said: str) -> None:
    done = run("--server", address, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_who_is_not_there_or_is_no_service_is_told_so(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not answer" in run("--server", "http://127.0.0.1:9", "list").stderr
    assert "takes an address" in run("--server", "ftp://x", "list").stderr
    monkeypatch.setenv("AUTOPEFT_TOKEN", "apt_wrong")
    assert "not known, or was revoked" in run("--server", address, "list").stderr
    monkeypatch.delenv("AUTOPEFT_TOKEN")
    assert "wants a token" in run("--server", address, "list").stderr


def test_a_stream_that_breaks_off_is_taken_up_again_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    pieces = [
        b'data: {"number": 1, "kind": "doing"}\n\ndata: {"number": 2, "kind": "doing"}\n\n',
        b'data: {"number": 3, "kind": "state", "state": "ended"}\n\n',
    ]

    def open_stream(self: Server, verb: str, path: str, body: Any = None, headers: Any = None) -> Any:  # noqa: ARG001
        asked.append(headers["last-event-id"])
        return io.BytesIO(pieces.pop(0))

    monkeypatch.setattr(Server, "open", open_stream)
    monkeypatch.setattr("autopeft.cli.remote._AGAIN", 0.0)
    assert [each["number"] for each in Server("http://x", "apt_x").happened("a")] == [1, 2, 3]
    assert asked == ["0", "2"]
