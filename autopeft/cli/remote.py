"""Searches of a service, as if they were here: asked over the network, reported by the same code.

A search travels as a database that holds it alone, and its events as plain values, so that whatever is printed of them
is what would be printed where it runs. The token goes to the address that was given, and to no other; whatever answers
there is told in a sentence, also where it is no service of autopeft's.
"""

import http.client
import json
import re
import shlex
import shutil
import ssl
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode, urljoin, urlsplit

from autopeft.errors import AutopeftError
from autopeft.events import Doing, Event
from autopeft.plan import Plan
from autopeft.reports.standing import Standing
from autopeft.reports.telling import heard
from autopeft.searching.search import Search
from autopeft.searching.whereabouts import LACKING
from autopeft.storage.repository import Repository
from autopeft.trial import SearchRecord

_PATIENCE = 1900.0
"""Seconds for an answer: an export may take half an hour."""
_SILENCE = 60.0
"""The same for the next line of a stream, in which signs of life come every 15 seconds."""
_AGAIN = 2.0
"""Seconds until a service that was away is asked again."""
_RETURNS = 300.0
"""Seconds in which a service may come back while a search is followed: a restart, or a proxy's."""
_AWAY = (502, 503, 504)
_OVER = ("ended", "failed", "stopped")
_VISIBLE = re.compile("[!-~]+")
"""What addresses and tokens are written in."""
_JSON, _STREAM, _SQLITE, _ZIP = "application/json", "text/event-stream", "application/vnd.sqlite3", "application/zip"
_Value = TypeVar("_Value")


class Away(AutopeftError):
    """The service does not answer now; it may be back soon."""


@dataclass(frozen=True)
class Listed:
    """A search as a list tells it."""

    name: str
    created: datetime
    state: str
    trials: int
    shown: str
    """Its best score."""
    model: str


@dataclass(frozen=True)
class Server:
    """A service, and whom it takes us for. All methods raise AutopeftError: the sentences of its API, Away where nobody
    answers, and where somebody else does.
    """

    url: str
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not _VISIBLE.fullmatch(self.url) or not _is_address(self.url):
            raise AutopeftError(
                f"--server, or AUTOPEFT_SERVER, takes an address such as http://127.0.0.1:8000, not '{self.url}'."
            )
        if not self.token:
            raise AutopeftError("a service wants a token: set AUTOPEFT_TOKEN to one that it made.")
        if not _VISIBLE.fullmatch(self.token):
            raise AutopeftError(
                "AUTOPEFT_TOKEN holds characters that are in no token; copy it once more, from apt_ on."
            )

    def json(self, verb: str, path: str, body: Any = None) -> Any:
        """What the API answers."""
        sent = None if body is None else json.dumps(body).encode()
        with closing(self.open(verb, path, sent, {"content-type": _JSON})) as answer, self.reading():
            return json.load(answer)

    def open(
        self,
        verb: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        kind: str = _JSON,
        patience: float = _PATIENCE,
    ) -> Any:
        """An answer of this media type as a stream."""
        whole = {"authorization": f"Bearer {self.token}", **(headers or {})}
        request = urllib.request.Request(self._address(path), body, whole, method=verb)
        try:
            answer = _opener().open(request, timeout=patience)
        except urllib.error.HTTPError as error:
            raise self._refused(error, path) from error
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise Away(f"the service at {self.url} does not answer: {getattr(error, 'reason', error)}.") from error
        if answer.headers.get_content_type() != kind:
            answer.close()
            raise self._stranger()
        return answer

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around what is read of an answer."""
        try:
            yield
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            raise Away(f"the answer of {self.url} broke off; try again.") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
            raise self._stranger() from error

    def page(self, name: str) -> str:
        """Where people look at a search."""
        return f"{self.url.rstrip('/')}/searches/{quote(name)}"

    def searches(self) -> list[Listed]:
        """All of them, the newest first."""
        with self.reading():
            found = [_listed(each) for each in self.json("GET", "/searches?limit=1000")["searches"]]
            return sorted(found, key=lambda each: each.created, reverse=True)

    def opened(self, name: str | None) -> "Served":
        """A search, or the most recent one."""
        known = [each.name for each in self.searches() if each.trials] if name is None else [name]
        if not known:
            raise AutopeftError(f"there is no search at {self.url} yet; begin one with `autopeft search`.")
        return Served(self, known[0])

    def upload(self, file: Path) -> str:
        """How a plan names a file of this machine there."""
        with file.open("rb") as stream:
            size = {"content-length": str(file.stat().st_size), "content-type": "application/octet-stream"}
            answer = self.open("POST", f"/uploads?{urlencode({'name': file.name})}", stream, size)
            with closing(answer), self.reading():
                return str(json.load(answer)["data"])

    def begin(self, plan: Plan, name: str | None) -> str:
        """The name of a new search."""
        with self.reading():
            return str(self.json("POST", "/searches", {"plan": plan.to_dict(), "name": name})["name"])

    def happened(self, name: str) -> Iterator[Mapping[str, Any]]:
        """The events of a search, each once, until it ends; also where the service is away for some minutes."""
        path, last = f"/searches/{quote(name)}/events", 0
        while True:
            headers = {"last-event-id": str(last)}
            stream = _patiently(partial(self.open, "GET", path, None, headers, _STREAM, _SILENCE))
            with closing(stream), suppress(Away), self.reading():
                for line in stream:
                    if line.startswith(b"data: ") and line.endswith(b"\n"):
                        told: dict[str, Any] = json.loads(line[6:])
                        last = told["number"]
                        yield told
                        if told["kind"] == "state" and told["state"] in _OVER:
                            return
            time.sleep(_AGAIN)

    def _address(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/api/v1{path}"

    def _refused(self, error: urllib.error.HTTPError, path: str) -> AutopeftError:
        if error.code in range(300, 400) and (to := error.headers.get("location")):
            with suppress(ValueError):
                to = urljoin(self._address(path), to)
            there = to.removesuffix(f"/api/v1{path}")
            return AutopeftError(
                f"{self.url} points to {there}, and a token goes only where it is sent; "
                "if the service is there, give that address."
            )
        return (Away if error.code in _AWAY else AutopeftError)(_detail(error))

    def _stranger(self) -> AutopeftError:
        return AutopeftError(f"what answers at {self.url} is no service of autopeft's; is this its address?")


class Served(Search):
    """A search that a service keeps."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        super().__init__(name)

    def _load(self) -> SearchRecord:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "search.db"
            stream = self._server.open("GET", f"/searches/{quote(self.name)}/search.db", kind=_SQLITE)
            with closing(stream), self._server.reading():
                file.write_bytes(stream.read())
            with Repository(f"sqlite:///{file}") as repository:
                record = repository.load(self.name)
        facts = dict(record.facts)
        self._lacking = frozenset(facts.pop(LACKING, ()))
        return replace(record, facts=facts)

    def has_weights(self, number: int) -> bool:
        return self.trial(number).number not in self._lacking

    def why_deleted(self, number: int) -> str:  # noqa: ARG002
        return ""  # Whoever exports hears of it from the service.

    def export(  # type: ignore[override]
        self, number: int, to: str | Path, merge: bool = False, *, onnx: bool = False, lora: bool = False, **moved: Any
    ) -> Path:
        """The same folder as where the search ran."""
        if given := [f"--{name.replace('_', '-')}" for name, value in moved.items() if value]:
            raise AutopeftError(
                f"{', '.join(given)} is not for a service, which knows where its models are; leave it out."
            )
        if lora:
            raise AutopeftError(
                "--as lora is not for a service, which writes peft's form, merged, or ONNX; leave it out."
            )
        if onnx and merge:
            raise AutopeftError("give merge or onnx, not both: in an ONNX file all is merged that merges.")
        self.trial(number)
        folder = Path(to)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise AutopeftError(f"'{to}' exists and is not an empty folder; give another one.")
        form = "onnx" if onnx else "merged" if merge else "peft"
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "winner.zip"
            path = f"/searches/{quote(self.name)}/trials/{number}/winner.zip?form={form}"
            with closing(self._server.open("GET", path, kind=_ZIP)) as stream, self._server.reading():
                with file.open("wb") as written:
                    shutil.copyfileobj(stream, written)
                if stream.length:
                    raise http.client.IncompleteRead(b"", stream.length)
                with zipfile.ZipFile(file) as packed:
                    packed.extractall(place)  # Which leaves out whatever of a name would lead out of it.
                [winner] = [each for each in Path(place).iterdir() if each.is_dir()]
            shutil.copytree(winner, folder, dirs_exist_ok=True)
        return folder


def search(
    server: Server, plan: Plan, name: str | None, tell: Callable[[Event], None], begun: Callable[[str], Any]
) -> Search:
    """Begins a search there and follows it to its end; a file of this machine is sent along. Raises AutopeftError."""
    file = Path(plan.data)
    if file.is_file():
        tell(Doing(f"uploading {file.name}"))
        plan = replace(plan, data=server.upload(file))
    name = server.begin(plan, name)
    begun(name)
    try:
        return _followed(server, name, tell)
    except Away as error:
        look = shlex.join(["autopeft", "--server", server.url, "report", name])
        raise AutopeftError(
            f"{error} The search goes on there; look at it by `{look}`, or {server.page(name)}"
        ) from error


def _followed(server: Server, name: str, tell: Callable[[Event], None]) -> Search:
    standing = Standing(time.monotonic())

    def served() -> Search:
        return _patiently(lambda: Served(server, name))

    for told in server.happened(name):
        if told["kind"] == "state":
            if told["state"] == "waiting":
                tell(Doing("waiting in the queue of the service"))
            if told["state"] == "failed":
                raise AutopeftError(told.get("reason") or "the search failed.")
            continue
        with server.reading():
            events = [*heard(told["kind"], told, standing.turned_away, lambda: served().record)]
        for event in events:
            standing = standing.after(event, time.monotonic())
            tell(event)
    return served()


def _patiently(do: Callable[[], _Value]) -> _Value:
    """What it does, also where the service is away for some minutes. Raises Away where it stays away."""
    until = time.monotonic() + _RETURNS
    while True:
        try:
            return do()
        except Away:
            if time.monotonic() > until:
                raise
        time.sleep(_AGAIN)


def _opener() -> urllib.request.OpenerDirector:
    """It follows no redirect: tokens are for one address, and what is posted would be asked for instead."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        *(urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler),
        *(urllib.request.HTTPErrorProcessor, urllib.request.HTTPDefaultErrorHandler),
    ):
        opener.add_handler(handler())
    return opener


def _is_address(url: str) -> bool:
    """Whether paths can be written after it."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return known and not (parts.username or parts.password or parts.query or parts.fragment)


def _listed(told: Mapping[str, Any]) -> Listed:
    words = {name: str(told[name]) for name in ("name", "state", "shown", "model")}
    return Listed(created=datetime.fromisoformat(told["created"]), trials=int(told["trials"]), **words)


def _detail(error: urllib.error.HTTPError) -> str:
    """The sentence of a problem; else what kind of answer it was."""
    try:
        return str(cast("dict[str, Any]", json.loads(error.read(2**20)))["detail"])
    except (ValueError, KeyError, TypeError, RecursionError, OSError, http.client.HTTPException):
        return f"the service answers {error.code} {error.reason}; is this the address of autopeft's?"
