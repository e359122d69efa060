"""Attacks on the service, each answered: strangers, forged requests, paths out of the roots, code, floods."""

import gzip
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from autopeft.service.security import COOKIE, CSRF, Sessions
from autopeft.storage.tokens import RUN
from tests.service.conftest import Service
from tests.service.test_api import API, detail

OUT = ("../secret.csv", "/etc/passwd", "roots/../../secret.csv", "~/x.csv", "file:///etc/passwd", "link.csv", "a\0b")
TEXT = "<script>alert(1)</script>' OR 1=1 --"


@pytest.fixture(scope="module", autouse=True)
def links(files: Path) -> None:
    """Somebody put links that lead out into a folder that may be read."""
    root = files / "roots"
    (root / "link.csv").symlink_to(files / "secret.csv")
    (root / "folder").mkdir()
    (root / "folder" / "train.csv").symlink_to(files / "secret.csv")


def test_nobody_gets_in_without_a_token_or_with_a_wrong_or_revoked_one(service: Service) -> None:
    told = service.office.tokens.add("gone", RUN)
    service.office.tokens.revoke("gone")
    for header in ("", "Bearer", "Bearer apt_wrong", f"Bearer {told}", "Basic YTpi", f"Bearer {TEXT}"):
        answer = service.client.get(f"{API}/searches", headers={"authorization": header})
        detail(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"


def test_every_path_but_health_and_version_wants_a_token(service: Service) -> None:
    document = service.client.get(f"{API}/openapi.json").json()
    open_paths = set()
    service.client.headers.pop("authorization")
    for path, verbs in document["paths"].items():
        for verb in verbs:
            filled = path.replace("{name}", "a").replace("{number}", "1").replace("{format}", "json")
            if service.client.request(verb, filled).status_code != 401:
                open_paths.add(path)
    assert open_paths == {f"{API}/health", f"{API}/version", f"{API}/session"}


def test_who_may_read_may_not_run(service: Service) -> None:
    service.client.headers.update(service.reader)
    assert service.client.get(f"{API}/searches").status_code == 200
    asked = {"plan": service.plan(), "name": "a"}
    assert "may read, not run" in detail(service.client.post(f"{API}/searches", json=asked), 403)
    detail(service.client.delete(f"{API}/searches/a"), 403)
    detail(service.client.post(f"{API}/uploads", params={"name": "a.csv"}, content=b"a"), 403)


def test_who_gives_many_wrong_tokens_waits(service: Service) -> None:
    wrong = {"authorization": "Bearer apt_guess"}
    statuses = [service.client.get(f"{API}/searches", headers=wrong).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    answer = service.client.get(f"{API}/searches", headers=wrong)
    assert "wait a minute" in detail(answer, 429)
    assert answer.headers["retry-after"] == "60"
    # Nobody is locked out by what others tried from the same address.
    assert service.client.get(f"{API}/searches").status_code == 200


def session(service: Service) -> tuple[Sessions, str]:
    """The service's sessions, and the cookie of one who may run."""
    sessions: Sessions = service.client.app.state.sessions  # type: ignore[attr-defined]
    token = next(each for each in service.office.tokens.all() if each.role == RUN)
    return sessions, sessions.cookie(token)


def test_a_session_changes_nothing_without_the_word_of_our_pages(service: Service) -> None:
    sessions, cookie = session(service)
    service.client.headers.pop("authorization")
    service.client.cookies.set(COOKIE, cookie)
    assert service.client.get(f"{API}/searches").status_code == 200
    asked = {"plan": service.plan(), "name": "a"}
    for word in ("", "wrong", sessions.word("another's cookie")):
        detail(service.client.post(f"{API}/searches", json=asked, headers={CSRF: word}), 403)
    good = {CSRF: sessions.word(cookie)}
    detail(service.client.post(f"{API}/searches", json=asked, headers={**good, "origin": "https://evil.example"}), 403)
    assert service.client.post(f"{API}/searches", json=asked, headers=good).status_code == 201


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "https://elsewhere.example", "null"])
def test_a_form_of_another_site_is_refused_however_that_is_named(service: Service, origin: str) -> None:
    answer = service.client.post(f"{API}/searches", headers={"origin": origin}, json={})
    assert "from a page of another site" in detail(answer, 403)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_token_is_exchanged_for_a_cookie_that_no_script_reads(service: Service) -> None:
    told = service.client.headers.pop("authorization").removeprefix("Bearer ")
    detail(service.client.post(f"{API}/session", json={"token": "apt_wrong"}), 401)
    answer = service.client.post(f"{API}/session", json={"token": told})
    assert all(word in answer.headers["set-cookie"] for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert told not in answer.headers["set-cookie"]
    assert service.client.get(f"{API}/session").json() == answer.json()
    detail(service.client.delete(f"{API}/session"), 403)
    assert service.client.delete(f"{API}/session", headers={CSRF: answer.json()["word"]}).status_code == 204
    detail(service.client.get(f"{API}/searches"), 401)


def test_a_cookie_of_another_service_a_changed_one_and_one_of_a_revoked_token_are_nobodys(
    service: Service, tmp_path: Path
) -> None:
    _, cookie = session(service)
    token = next(each for each in service.office.tokens.all() if each.role == RUN)
    service.client.headers.pop("authorization")
    for wrong in (Sessions(tmp_path / "other").cookie(token), cookie[:-2] + "xx", "", TEXT.replace(";", "")):
        detail(service.client.get(f"{API}/searches", headers={"cookie": f"{COOKIE}={wrong}"}), 401)
    # Another database has other tokens of the same numbers, and the same folder.
    elsewhere = Sessions(service.settings.folder).cookie(replace(token, created=token.created + timedelta(seconds=1)))
    detail(service.client.get(f"{API}/searches", headers={"cookie": f"{COOKIE}={elsewhere}"}), 401)
    assert service.client.get(f"{API}/searches", headers={"cookie": f"{COOKIE}={cookie}"}).status_code == 200
    service.office.tokens.revoke(token.name)
    detail(service.client.get(f"{API}/searches", headers={"cookie": f"{COOKIE}={cookie}"}), 401)


def test_the_secret_of_sessions_is_read_by_nobody_else(service: Service) -> None:
    file = service.settings.folder / "service.secret"
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_text()) == 64


@pytest.mark.parametrize("field", ["data", "model"])
def test_no_path_leads_out_of_the_roots(service: Service, field: str) -> None:
    for place in (*OUT, "folder"):
        answer = service.client.post(f"{API}/searches", json={"plan": service.plan(**{field: place}), "name": "a"})
        assert answer.status_code in (400, 403), place
        assert "password" not in detail(answer, answer.status_code)
        if field == "data":
            detail(service.client.post(f"{API}/understand", json={"data": place}), answer.status_code)


def test_what_lies_outside_is_answered_alike_whether_it_is_there(service: Service) -> None:
    there, not_there = (
        detail(service.client.post(f"{API}/understand", json={"data": str(service.place / name)}), 403)
        for name in ("secret.csv", "nothing.csv")
    )
    assert there.replace("secret", "") == not_there.replace("nothing", "")


@pytest.mark.parametrize("model", ["https://evil.example/model", "org/name", "org/name@main", "git+ssh://x/y"])
def test_models_of_a_hub_and_addresses_are_refused_where_the_operator_does_not_allow_them(
    service: Service, model: str
) -> None:
    answer = service.client.post(f"{API}/searches", json={"plan": service.plan(model=model), "name": "a"})
    assert "fetches none from a hub" in detail(answer, 403)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"task": "evil.py:Task"}, "code, and cards, come only from the operator"),
        ({"task": "os:system"}, "code, and cards, come only from the operator"),
        ({"metric": "os:system"}, "code, and cards, come only from the operator"),
        ({"space": "/tmp"}, "code, and cards, come only from the operator"),
        ({"space": "../search_spaces"}, "code, and cards, come only from the operator"),
        ({"trust_remote_code": True}, "runs no code that comes with models"),
    ],
)
def test_no_plan_brings_code(service: Service, changed: dict[str, Any], said: str) -> None:
    answer = service.client.post(f"{API}/searches", json={"plan": service.plan(**changed), "name": "a"})
    assert said in detail(answer, 403)
    if "space" not in changed:
        asked = {"data": "reviews.csv", "plan": changed}
        assert said in detail(service.client.post(f"{API}/understand", json=asked), 403)


@pytest.mark.parametrize("name", [TEXT, "../a", "a/b", "a" * 200, ".hidden", "a\nb", "C:\\x", ""])
def test_names_of_searches_and_files_are_plain(service: Service, name: str) -> None:
    if name:
        detail(service.client.post(f"{API}/searches", json={"plan": service.plan(), "name": name}), 400)
    sent = service.client.post(
        f"{API}/uploads", params={"name": f"{name}.csv" if name else name}, content=b"a,b\n1,2\n"
    )
    detail(sent, sent.status_code)
    assert not list(service.settings.uploads.rglob("*")) or not any(service.settings.uploads.rglob("*.csv"))


@pytest.mark.parametrize("path", ["", "/front", "/report.html", "/events", "/trials/1/winner.zip"])
def test_a_name_that_there_is_not_is_told_and_nothing_more(service: Service, path: str) -> None:
    for name in ("' OR 1=1 --", "%00", "..%2f..%2fetc", "<b>", "a" * 5000, "%ff"):
        answer = service.client.get(f"{API}/searches/{name}{path}", follow_redirects=False)
        assert answer.status_code in (404, 422), name


def test_an_upload_that_is_too_large_leaves_nothing_on_the_disk(service: Service) -> None:
    limit, path = service.settings.upload_limit, f"{API}/uploads"

    def chunks() -> Any:  # Nobody says how many there are.
        for _ in range(limit // 1000 + 2):
            yield b"a" * 1000

    for content in (b"a" * (limit + 100_000), b"a" * (limit + 1), chunks()):
        answer = service.client.post(path, params={"name": "a.csv"}, content=content)
        assert answer.status_code in (400, 413)
        assert not any(each.is_file() for each in service.settings.uploads.rglob("*"))
    lying = service.client.post(path, params={"name": "a.csv"}, content=b"a", headers={"content-length": "x"})
    assert lying.status_code in (400, 413)


def test_a_plan_of_a_megabyte_is_refused_before_it_is_read(service: Service) -> None:
    big = json.dumps({"plan": service.plan(data="a" * 2**20)}).encode()
    assert "may hold 1" in detail(service.client.post(f"{API}/searches", content=big), 413)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"plan": []}', b'{"plan": {"model": {"a": 1}}}', b"\xff\xfe"])
def test_bodies_that_are_no_plans_are_answered(service: Service, body: bytes) -> None:
    answer = service.client.post(f"{API}/searches", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    detail(answer, answer.status_code)


def test_a_bomb_is_refused_by_a_process_beside_the_service(service: Service) -> None:
    bomb = gzip.compress(b"a,b\n" + b"0" * 20_000_000)
    sent = service.client.post(f"{API}/uploads", params={"name": "a.csv.gz"}, content=bomb)
    assert sent.status_code == 201
    answer = service.client.post(f"{API}/understand", json={"data": sent.json()["data"]})
    detail(answer, 400)


def test_every_answer_tells_browsers_what_they_may_do(service: Service) -> None:
    for path in (f"{API}/health", f"{API}/searches/none", "/nothing"):
        headers = service.client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
