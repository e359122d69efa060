"""Searches of a service, as if they were here: asked over the network, reported by the same code.

A search travels as a database that holds it alone, and its events as plain values, so that whatever is printed of them
is what would be printed where it runs.
"""

import http.client
import json
import shutil
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit

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
_AGAIN = 2.0
"""Seconds until a stream that broke off is taken up again."""
_OVER = ("ended", "failed", "stopped")


@dataclass(frozen=True)
class Server:
    """A service, and whom it takes us for."""

    url: str
    token: str = ""

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
            raise AutopeftError(f"--server takes an address such as http://127.0.0.1:8000, not '{self.url}'.")
        if not self.token:
            raise AutopeftError("a service wants a token: set AUTOPEFT_TOKEN to one that it made.")

    def json(self, verb: str, path: str, body: Any = None) -> Any:
        """What the API answers. Raises AutopeftError: its own sentences, and where nobody answers."""
        sent = None if body is None else json.dumps(body).encode()
        with closing(self.open(verb, path, sent, {"content-type": "application/json"})) as answer:
            return json.load(answer)

    def open(self, verb: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """The same as a stream. Raises AutopeftError."""
        whole = {"authorization": f"Bearer {self.token}", **(headers or {})}
        request = urllib.request.Request(f"{self.url.rstrip('/')}/api/v1{path}", body, whole, method=verb)
        try:
            return urllib.request.urlopen(request, timeout=_PATIENCE)
        except urllib.error.HTTPError as error:
            raise AutopeftError(_detail(error)) from error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            raise AutopeftError(f"the service at {self.url} does not answer: {why}.") from error

    def searches(self) -> list[dict[str, Any]]:
        """All of them, the newest first."""
        found: list[dict[str, Any]] = self.json("GET", "/searches?limit=1000")["searches"]
        return sorted(found, key=lambda each: str(each["created"]), reverse=True)

    def opened(self, name: str | None) -> "Served":
        """A search, or the most recent one. Raises AutopeftError."""
        known = [each["name"] for each in self.searches() if each["trials"]] if name is None else [name]
        if not known:
            raise AutopeftError(f"there is no search at {self.url} yet; begin one with `autopeft search`.")
        return Served(self, known[0])

    def upload(self, file: Path) -> str:
        """How a plan names a file of this machine there."""
        with file.open("rb") as stream:
            size = {"content-length": str(file.stat().st_size), "content-type": "application/octet-stream"}
            with closing(self.open("POST", f"/uploads?{urlencode({'name': file.name})}", stream, size)) as answer:
                return str(json.load(answer)["data"])

    def happened(self, name: str) -> Iterator[Mapping[str, Any]]:
        """The events of a search, each once, until it ends; also where the connection breaks off meanwhile."""
        last = 0
        while True:
            headers = {"last-event-id": str(last)}
            with closing(self.open("GET", f"/searches/{quote(name)}/events", None, headers)) as stream:
                try:
                    for line in stream:
                        if line.startswith(b"data: "):
                            told: dict[str, Any] = json.loads(line[6:])
                            last = told["number"]
                            yield told
                            if told["kind"] == "state" and told["state"] in _OVER:
                                return
                except (OSError, http.client.HTTPException):
                    pass
            time.sleep(_AGAIN)


class Served(Search):
    """A search that a service keeps."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        super().__init__(name)

    def _load(self) -> SearchRecord:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "search.db"
            with closing(self._server.open("GET", f"/searches/{quote(self.name)}/search.db")) as stream:
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
        self, number: int, to: str | Path, merge: bool = False, *, onnx: bool = False, **moved: Any
    ) -> Path:
        """The same folder as where the search ran."""
        if given := [f"--{name.replace('_', '-')}" for name, value in moved.items() if value]:
            raise AutopeftError(
                f"{', '.join(given)} is not for a service, which knows where its models are; leave it out."
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
            with closing(self._server.open("GET", path)) as stream, file.open("wb") as written:
                shutil.copyfileobj(stream, written)
            with zipfile.ZipFile(file) as packed:
                packed.extractall(place)  # Which leaves out whatever of a name would lead out of it.
            shutil.copytree(next(each for each in Path(place).iterdir() if each.is_dir()), folder, dirs_exist_ok=True)
        return folder


def search(
    server: Server, plan: Plan, name: str | None, tell: Callable[[Event], None], begun: Callable[[str], Any]
) -> Search:
    """Begins a search there and follows it to its end; a file of this machine is sent along. Raises AutopeftError."""
    file = Path(plan.data)
    if file.is_file():
        tell(Doing(f"uploading {file.name}"))
        plan = replace(plan, data=server.upload(file))
    shown = server.json("POST", "/searches", {"plan": plan.to_dict(), "name": name})
    begun(shown["name"])
    standing = Standing(time.monotonic())

    def record() -> SearchRecord:
        return Served(server, shown["name"]).record

    for told in server.happened(shown["name"]):
        if told["kind"] == "state":
            if told["state"] == "waiting":
                tell(Doing("waiting in the queue of the service"))
            if told["state"] == "failed":
                raise AutopeftError(told.get("reason") or "the search failed.")
            continue
        for event in heard(told["kind"], told, standing.turned_away, record):
            standing = standing.after(event, time.monotonic())
            tell(event)
    return Served(server, shown["name"])


def _detail(error: urllib.error.HTTPError) -> str:
    """The sentence of a problem; else what kind of answer it was."""
    try:
        return str(cast("dict[str, Any]", json.loads(error.read(2**20)))["detail"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"the service answers {error.code} {error.reason}; is this the address of autopeft's?"
