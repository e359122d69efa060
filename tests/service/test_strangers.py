"""A command line against addresses that are none, tokens that are none, and servers that are no service of autopeft's:
one sentence each, in which no token stands, and none is sent to where it was not meant to go.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from autopeft.cli.remote import Server
from autopeft.errors import AutopeftError
from tests.test_cli import run

TOKEN = "apt_hush"
SEARCH = ("search", "--model", "m", "--data", "d")
NO_SERVICE = "is no service of autopeft's"


class Stranger:
    """A server that answers everything alike, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status, self.kind, self.body, self.headers = 200, "application/json", b"{}", dict[str, str]()
        self.asked: list[tuple[str, str, str]] = []
        """Method, path and token."""
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                stranger.asked.append((self.command, self.path, self.headers.get("authorization", "")))
                self.send_response(stranger.status)
                whole = {"content-type": stranger.kind, "content-length": str(len(stranger.body)), **stranger.headers}
                for name, value in whole.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(stranger.body)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self.listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.listening.server_port}"
        threading.Thread(target=self.listening.serve_forever, daemon=True).start()


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stranger]:
    monkeypatch.setenv("AUTOPEFT_TOKEN", TOKEN)
    made = Stranger()
    yield made
    made.listening.shutdown()
    made.listening.server_close()


@pytest.mark.parametrize("end", ["\r", "\n", " ", "\r\n"])
def test_what_stands_around_a_token_or_an_address_in_a_file_is_no_part_of_it(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    stranger.body = b'{"searches": []}'
    monkeypatch.setenv("AUTOPEFT_TOKEN", f"{TOKEN}{end}")
    monkeypatch.setenv("AUTOPEFT_SERVER", f"{stranger.url}{end}")
    assert run("list").stdout == f"No searches at {stranger.url}.\n"
    assert stranger.asked == [("GET", "/api/v1/searches?limit=1000", f"Bearer {TOKEN}")]


@pytest.mark.parametrize(
    "token",
    ["apt_hush\rX: y", "apt_hush hush", "apt_hush\x00", "apt_hush\N{EN DASH}", "hush\N{COMBINING ACUTE ACCENT}"],
)
def test_a_token_that_is_none_is_told_so_and_not_told(token: str) -> None:
    with pytest.raises(AutopeftError, match="copy it once more") as refused:
        Server("http://127.0.0.1:9", token)
    assert "hush" not in str(refused.value)
    assert "hush" not in repr(Server("http://127.0.0.1:9", "apt_hush"))


@pytest.mark.parametrize(
    "url",
    [
        *("http://[::1", "http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://ex ample/", "http://x\r\nHost: y"),
        *("127.0.0.1:8000", "http://", "http://:8000", "http://me:hush@127.0.0.1", "http://x/?a=b", "http://x/#a"),
        *("http://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "file:///etc/passwd"),
    ],
)
def test_an_address_that_is_none_is_told_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPEFT_TOKEN", TOKEN)
    done = run("--server", url, "list")
    assert (done.exit_code, "takes an address such as" in done.stderr) == (2, True)
    assert "hush" not in done.stderr


def test_a_host_whose_name_cannot_be_looked_up_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPEFT_TOKEN", TOKEN)
    assert "does not answer" in run("--server", "http://a..b", "list").stderr


@pytest.mark.parametrize(
    "command", [("list",), ("report",), ("report", "a"), SEARCH, ("export", "a", "1", "--to", "w")]
)
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html>Welcome</html>"),
        ("application/json", b"<html>Welcome</html>"),
        ("application/json", b"[]"),
        ("application/json", b"{}"),
        ("application/json", b"7"),
        ("application/json", b"\xff"),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"searches": [{"name": "a"}], "name": null}'),
        ("application/json", b'{"searches": [7], "name": "a"}'),
    ],
)
def test_what_is_no_service_is_told_so(stranger: Stranger, command: tuple[str, ...], kind: str, body: bytes) -> None:
    stranger.kind, stranger.body = kind, body
    done = run("--server", stranger.url, *command)
    assert (done.exit_code, NO_SERVICE in done.stderr) == (2, True), done.stderr
    assert "hush" not in done.output


@pytest.mark.parametrize("kind", ["text/html", "application/zip"])
def test_a_winner_that_is_none_is_told_so(stranger: Stranger, kind: str, tmp_path: Path) -> None:
    from autopeft.cli.remote import Served  # A search that was loaded before.

    stranger.kind, stranger.body = kind, b"<html>"
    search = Served.__new__(Served)
    search.name, search._server, search._trials = "a", Server(stranger.url, TOKEN), (type("T", (), {"number": 1}),)
    with pytest.raises(AutopeftError, match=NO_SERVICE):
        search.export(1, tmp_path / "winner")
    assert not (tmp_path / "winner").exists()


@pytest.mark.parametrize("body", [b"<html>Bad", b'{"detail"', b"[" * 100_000, b"[7]", b"\xff"])
def test_an_error_that_is_none_of_ours_is_told_by_its_number(stranger: Stranger, body: bytes) -> None:
    stranger.status, stranger.body = 500, body
    assert "answers 500 Internal Server Error" in run("--server", stranger.url, "list").stderr


def test_an_answer_that_breaks_off_is_told_so(stranger: Stranger) -> None:
    stranger.body, stranger.headers = b'{"searches": [', {"content-length": "100"}
    done = run("--server", stranger.url, "list")
    assert (done.exit_code, f"the answer of {stranger.url} broke off" in done.stderr) == (2, True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("command", [("list",), SEARCH])
def test_no_redirect_is_followed_and_the_address_is_told(
    stranger: Stranger, status: int, command: tuple[str, ...]
) -> None:
    other = Stranger()
    stranger.status = status
    path = "/api/v1/searches" + ("?limit=1000" if command == ("list",) else "")
    stranger.headers = {"location": f"{other.url}{path}"}
    done = run("--server", stranger.url, *command)
    assert (done.exit_code, f"{stranger.url} points to {other.url}, " in done.stderr) == (2, True), done.stderr
    assert "give that address" in done.stderr
    assert len(stranger.asked) == 1
    assert other.asked == []
    other.listening.shutdown()
    other.listening.server_close()


@pytest.mark.parametrize(
    ("location", "said"), [("/sign-in", "/sign-in, "), ("http://[::1", "points to http://[::1, "), ("", "answers 302")]
)
def test_a_redirect_to_anywhere_is_told(stranger: Stranger, location: str, said: str) -> None:
    stranger.status, stranger.headers = 302, {"location": location} if location else {}
    done = run("--server", stranger.url, "list")
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_whose_service_restarts_is_asked_again(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    stranger.status = status

    def back(_: float) -> None:
        stranger.status, stranger.kind = 200, "text/event-stream"
        ended = b'data: {"number": 1, "kind": "state", "state": "ended"}\n\n'
        stranger.body = ended if len(stranger.asked) == 2 else b'data: {"number": 1, "ki'

    monkeypatch.setattr("autopeft.cli.remote.time.sleep", back)
    assert [each["state"] for each in Server(stranger.url, TOKEN).happened("a")] == ["ended"]
    assert len(stranger.asked) == 3


def test_a_stream_that_is_no_stream_is_not_asked_for_again(stranger: Stranger) -> None:
    stranger.kind = "text/html"
    with pytest.raises(AutopeftError, match=NO_SERVICE):
        next(Server(stranger.url, TOKEN).happened("a"))


def test_a_list_is_read_as_it_was_told(stranger: Stranger) -> None:
    one = {
        "name": "a",
        "created": "2026-01-02T00:00:00+00:00",
        "state": "ended",
        "trials": 3,
        "shown": "0.9",
        "model": "m",
    }
    stranger.body = json.dumps({"searches": [{**one, "new": "of a later version"}]}).encode()
    assert "finished" in run("--server", stranger.url, "list").stdout
