"""The command line against a service: the same output as where the search ran, and answers to what goes wrong."""

import io
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
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
        there = local.stdout.replace("; if the run folder was moved, say where by --folder", "")
        assert served.stdout == there.replace(f" --storage {service.settings.storage}", "")


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
    lora = run("--server", address, "export", name, 1, "--to", tmp_path / "b", "--as", "lora")
    assert "--as lora is not for a service" in lora.stderr


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
        (("search", "--model", "m", "--data", "d", "--gpus-per-trial", "2"), "--gpus-per-trial is for the operator"),
        (("search", "--model", "m", "--data", "d", "--storage", "sqlite:///x.db"), "--storage is for the operator"),
        (("list", "--storage", "sqlite:///mine.db"), "--storage is for the operator"),
        (("report", "a", "--folder", "runs", "--storage", "x"), "--storage, --folder is for the operator"),
        (("select", "a", "--storage", "nonsense"), "leave it out, or leave out --server"),
        (("export", "a", "1", "--to", "w", "--folder", "/nowhere"), "--folder is for the operator"),
        (("resume",), "--server is for search, list, report, select, export"),
        (("delete", "a", "--yes"), "leave it out. The service's pages do more"),
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

    def open_stream(self: Server, verb: str, path: str, body: Any, headers: Any, *_: Any) -> Any:  # noqa: ARG001
        asked.append(headers["last-event-id"])
        return io.BytesIO(pieces.pop(0))

    monkeypatch.setattr(Server, "open", open_stream)
    monkeypatch.setattr("autopeft.cli.remote._AGAIN", 0.0)
    assert [each["number"] for each in Server("http://x", "apt_x").happened("a")] == [1, 2, 3]
    assert asked == ["0", "2"]


def away(monkeypatch: pytest.MonkeyPatch, is_away: Callable[[str, int], bool]) -> list[str]:
    """Nobody answers where `is_away` says so of an address and of how often it was asked for; what was asked for."""
    opened, asked = urllib.request.OpenerDirector.open, list[str]()

    def open_or_not(self: Any, request: urllib.request.Request, *rest: Any, **more: Any) -> Any:
        if request.method == "GET":
            asked.append(request.full_url)
            if is_away(request.full_url, asked.count(request.full_url)):
                raise urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))
        return opened(self, request, *rest, **more)

    monkeypatch.setattr("autopeft.cli.remote._AGAIN", 0.0)
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", open_or_not)
    return asked


def test_a_service_that_is_away_for_a_while_is_waited_for(
    service: Service, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = threading.Thread(target=process, args=(service, ENDED))
    thread.start()
    asked = away(monkeypatch, lambda _, times: times % 3 != 0)
    done = run("--server", address, "search", "--model", "model", "--data", "reviews.csv", "--name", "mine")
    thread.join()
    assert done.exit_code == 0, done.output
    assert "Search mine" in done.stdout
    assert asked.count(f"{address}/api/v1/searches/mine/events") == 3
    assert asked.count(f"{address}/api/v1/searches/mine/search.db") == 9


@pytest.mark.parametrize("lost", ["events", "search.db"])
def test_who_waits_in_vain_is_told_that_the_search_goes_on_there(
    service: Service, address: str, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    thread = threading.Thread(target=process, args=(service, ENDED))
    thread.start()
    away(monkeypatch, lambda url, _: url.endswith(lost))
    monkeypatch.setattr("autopeft.cli.remote._RETURNS", 0.0)
    done = run("--server", address, "search", "--model", "model", "--data", "reviews.csv", "--name", "mine")
    thread.join()
    assert done.exit_code == 2
    assert "does not answer: [Errno 111] Connection refused. The search goes on there" in done.stderr
    assert f"`autopeft --server {address} report mine`, or {address}/searches/mine" in done.stderr


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of this machine, with a search `mine`, where the environment names a service."""
    storage = f"sqlite:///{tmp_path}/mine.db"
    with Repository(storage) as repository:
        repository.create(replace(record(), name="mine"))
    monkeypatch.chdir(tmp_path)
    return storage


def test_a_database_that_is_given_comes_before_a_service_of_the_environment(
    service: Service, address: str, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = remembered(service)
    monkeypatch.setenv("AUTOPEFT_SERVER", address)
    assert theirs in run("list").stdout
    listed = run("list", "--storage", mine)
    assert ("mine" in listed.stdout, theirs in listed.stdout) == (True, False)
    assert "Search mine" in run("report", "--storage", mine).stdout
    assert "of mine" in run("select", "--storage", mine).stdout
    refused = run("report", theirs, "--folder", "runs")
    assert (
        "--folder is for the operator of the service to say; leave it out, or unset AUTOPEFT_SERVER" in refused.stderr
    )
    assert "unset AUTOPEFT_SERVER, or name a model" in run("search", "--demo").stderr
    monkeypatch.delenv("AUTOPEFT_TOKEN")
    assert run("list", "--storage", mine).exit_code == 0


def test_a_database_of_the_environment_is_not_given_to_a_service(
    service: Service, address: str, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = remembered(service)
    monkeypatch.setenv("AUTOPEFT_STORAGE", mine)
    assert "this service reads" in run("--server", address, "search", "--model", "/etc", "--data", "reviews.csv").stderr
    monkeypatch.setattr("autopeft.cli.remote.Served.has_weights", lambda *_: True)
    selected = run("--server", address, "select", theirs)
    assert f"Export it:  autopeft --server {address} export {theirs}" in selected.stdout
    assert "--storage" not in selected.stdout


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        (("delete", "mine", "--yes"), "use its pages"),
        (("resume", "mine"), "use its pages"),
        (("confirm", "mine"), "use its pages"),
        (("tokens", "--add", "anna"), "ask its operator"),
    ],
)
def test_what_no_service_does_is_not_done_here_in_its_place(
    command: tuple[str, ...], instead: str, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPEFT_SERVER", "http://127.0.0.1:9")
    monkeypatch.setenv("AUTOPEFT_STORAGE", mine)
    done = run(*command)
    assert done.exit_code == 2
    assert (
        f"{command[0]} works on this machine alone, and a service is named, http://127.0.0.1:9: {instead}, "
        in done.stderr
    )
    assert "unset AUTOPEFT_SERVER, or give --storage" in done.stderr
    with Repository(mine) as repository:
        assert repository.load("mine")


def test_what_no_service_does_is_done_in_a_database_that_is_given(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPEFT_SERVER", "http://127.0.0.1:9")
    assert run("tokens", "--add", "anna", "--storage", mine).stdout.startswith("apt_")
    assert "Deleted search mine" in run("delete", "mine", "--yes", "--storage", mine).stdout
