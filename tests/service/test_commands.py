"""The commands of the service: serve says what it needs, and tokens are made, listed and revoked."""

from pathlib import Path

import pytest

from tests.test_cli import run


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    where = ("--storage", f"sqlite:///{tmp_path}/searches.db")
    for asked in ((), ("--revoke", "laptop")):
        missing = run("tokens", *asked, *where)
        assert "give that of the service by --storage" in missing.stderr
        assert not [*tmp_path.iterdir()]
    token = run("tokens", "--add", "laptop", "--role", "read", *where).stdout.strip()
    assert token.startswith("apt_")
    listed = run("tokens", *where).stdout
    assert "laptop  read" in listed
    assert token not in listed
    assert run("tokens", "--revoke", "laptop", *where).stdout == "Revoked: laptop.\n"
    assert "revoked" in run("tokens", *where).stdout
    wrong = run("tokens", "--revoke", "laptop", *where)
    assert (wrong.exit_code, "unknown token 'laptop'" in wrong.stderr) == (2, True)
    assert run("tokens", "--add", "a", "--revoke", "b", *where).exit_code == 2


def test_serve_without_its_libraries_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopeft.errors.find_spec", lambda _: None)
    answer = run("serve")
    assert answer.exit_code == 2
    assert "this needs fastapi" in answer.stderr
    assert "pip install fastapi itsdangerous limits prometheus_client sse_starlette uvicorn" in answer.stderr


def test_serve_teaches_by_its_help() -> None:
    told = run("serve", "--help").stdout
    for word in ("--data-root", "--at-once", "Authorization: Bearer", "/api/v1/openapi.json", "autopeft serve --demo"):
        assert word in told


@pytest.mark.parametrize(
    ("trusted", "said"),
    [("mine.py:Stars", "there is no file 'mine.py'"), ("cards", "unknown space 'cards'"), (".", "holds no cards")],
)
def test_serve_begins_only_with_code_and_cards_that_are_there(
    trusted: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run("serve", "--trust", trusted, "--storage", f"sqlite:///{tmp_path}/searches.db")
    assert (answer.exit_code, said in answer.stderr) == (2, True)
    assert not [*tmp_path.iterdir()]
