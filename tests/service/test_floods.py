"""More attacks, each answered: bombs, floods, slow clients, SQL and HTML wherever a text may stand."""

import gzip
import io
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from urllib.parse import quote

import pytest
import uvicorn

from autopeft.service import security
from autopeft.storage.holding import Holding
from autopeft.storage.queue import FAILED
from autopeft.storage.repository import Repository
from tests.reports.test_hostile import evil
from tests.service.conftest import Service
from tests.service.test_api import API, detail
from tests.service.test_pages import HOSTILE, sign_in

SQL = "x'; DROP TABLE searches; --"


@pytest.fixture
def port(service: Service) -> Iterator[int]:
    """Where the service listens, for those who speak no good HTTP."""
    server = uvicorn.Server(uvicorn.Config(service.client.app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


def spoken(service: Service, port: int, length: int, body: bytes) -> bytes:
    """What is answered to an upload that says it is so long, of which this is all that comes."""
    head = f"POST {API}/uploads?name=a.csv HTTP/1.1\r\nHost: x\r\nAuthorization: {service.runner['authorization']}\r\n"
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as line:
        line.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + body)
        return line.recv(4096)


def test_ten_gigabytes_are_refused_before_any_of_them_came(service: Service, port: int) -> None:
    assert b" 413 " in spoken(service, port, 10 * 2**30, b"")


def test_who_sends_the_rest_too_late_is_let_go_and_leaves_nothing(
    service: Service, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "PATIENCE", 0.2)
    assert b" 408 " in spoken(service, port, 1000, b"text,label\n")
    assert not any(each.is_file() for each in service.settings.uploads.rglob("*"))
    assert service.client.get(f"{API}/health").status_code == 200


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that become large ones, or take long to be read."""
    yield "rows.csv.gz", gzip.compress(gzip.compress(b"0" * 2**26))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("rows.csv", b"text,label\n" + b'"' * 2**24)
    yield "rows.csv.zip", packed.getvalue()
    yield "columns.csv", b"," * 90_000 + b"\n1\n"
    yield "quotes.csv", b'text,label\n"' + b'""' * 40_000
    yield "nested.json", b"[" * 90_000


def test_bombs_are_answered_and_the_service_goes_on(service: Service) -> None:
    for name, content in bombs():
        assert len(content) < service.settings.upload_limit, name
        sent = service.client.post(f"{API}/uploads", params={"name": name}, content=content)
        detail(service.client.post(f"{API}/understand", json={"data": sent.json()["data"]}), 400)
        assert service.client.get(f"{API}/health").status_code == 200


def test_sql_in_names_is_a_name(service: Service) -> None:
    service.client.post(f"{API}/searches", json={"plan": service.plan(), "name": "a"})
    asked = {"state": SQL, "model": SQL, "data": SQL}
    assert service.client.get(f"{API}/searches", params=asked).json()["total"] == 0
    for verb, path, body in (
        ("GET", f"/searches/{SQL}", None),
        ("DELETE", f"/searches/{SQL}", None),
        ("POST", f"/searches/{SQL}/stop", None),
        ("POST", f"/searches/{SQL}/move", {"place": 1}),
        ("POST", "/session", {"token": SQL}),
        ("POST", "/searches", {"plan": service.plan(sampler=SQL), "name": "b"}),
        ("POST", "/searches", {"plan": service.plan(), "name": SQL}),
    ):
        assert service.client.request(verb, API + path, json=body).status_code in (400, 401, 404), path
    assert [each["name"] for each in service.client.get(f"{API}/searches").json()["searches"]] == ["a"]


def test_html_in_every_text_stays_text(service: Service) -> None:
    made = replace(evil(), name=HOSTILE, facts={**evil().facts, "workers": 2})
    with Repository(service.settings.storage) as repository:
        repository.create(made)
    holding = Holding(service.office.opened)
    service.client.post(f"{API}/searches", json={"plan": service.plan(), "name": "fails"})
    held = holding.take("here", 1)
    assert held is not None
    holding.finish(held, FAILED, HOSTILE)
    sign_in(service)
    name = quote(made.name)
    pages = ["/searches", "/searches/fails", f"/compare?of={name}&of=fails", f"{API}/metrics", f"/new?x={name}"]
    pages += [f"/searches/{name}{each}" for each in ("", "/parts", "/choose", "/chosen", "/trials/1/try")]
    pages += [f"/searches/{name}/glance.svg", f"/searches/{name}/choose?memory={name}"]
    for path in pages:
        answer = service.client.get(path)
        assert answer.status_code == 200, (path, answer.text[-400:])
        assert "<img src=x" not in answer.text, path
    assert "&lt;img" in service.client.get("/searches/fails").text
