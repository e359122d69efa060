"""No URL that is shown tells a secret, and what is harmless stays readable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.storage.urls import shown, without_secrets

HARMLESS = [
    "sqlite:///autopeft.db",
    "sqlite:////home/a:b/c@d/run=5/searches.db",
    "sqlite:///file:/data/x.db?mode=ro&uri=true",
    "postgresql+psycopg://me@host:5432/name?sslmode=require",
    "postgresql://[::1]:5432/name",
    "searches.db",
    "",
]


@pytest.mark.parametrize("url", HARMLESS)
def test_what_holds_no_secret_is_shown_as_it_is(url: str) -> None:
    assert shown(url) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:secret@host:5432/name", "postgresql://me:***@host:5432/name"),
        ("postgresql://me@corp:secret@host/name", "postgresql://me@corp:***@host/name"),
        ("postgresql://:secret@host/name", "postgresql://:***@host/name"),
        ("postgresql://me:a@secret@host/name", "postgresql://me:***@host/name"),
        ("postgresql://me:a/secret?b@host/name", "postgresql://me:***@host/name"),
        ("postgresql://me:p%40secret@host/name", "postgresql://me:***@host/name"),
        ("postgresql://me:secret/name", "postgresql://me:***/name"),
        ("postgresql://me:secret", "postgresql://me:***"),
        ("postgresql:/me:secret@host", "postgresql:***@host"),
        ("postgresql//me:secret@host", "postgresql//me:***@host"),
        ("me:secret@host/name", "me:***@host/name"),
        ("postgresql://host/name?user=me&password=secret", "postgresql://host/name?user=me&password=***"),
        ("postgresql://host/name?sslpassword=a&secret&mode=b", "postgresql://host/name?sslpassword=***&mode=b"),
        ("postgresql://host/name?user=a@b&Token=secret", "postgresql://host/name?user=a@b&Token=***"),
        ("postgresql://host/name?pass%77ord=secret", "postgresql://host/name?password=***"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dsecret", "mssql+pyodbc:///?odbc_connect=***"),
        ("sqlite+pysqlcipher://:secret@//data/x.db", "sqlite+pysqlcipher://:***@//data/x.db"),
        ("sqlite:///x.db?key=secret", "sqlite:///x.db?key=***"),
        ("host=db user=me password='a secret' port=5", "host=db user=me password=*** port=5"),
    ],
)
def test_a_secret_is_hidden_in_a_url_and_in_a_slip(url: str, said: str) -> None:
    assert shown(url) == said


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u%3ASECRET@h/db",
        "postgresql://u/SECRET@h",
        "postgresql://u@SECRET@h/db",
        "postgresql://u@SECRET@h:5432/db",
        "host=h password = SECRET",
        "sqlite:///u:SECRET@h/db",
        "postgresql://h/db?dbname=host%3Dh%20password%3DSECRET",
        "postgresql://h/db?host=h,password%3DSECRET",
        "postgresql://h/db?PASSWORD:SECRET",
    ],
)
def test_a_secret_in_another_place_is_hidden(url: str) -> None:
    assert "SECRET" not in shown(url)


words = st.text(st.sampled_from("abz/:@?&=;%#[] \\'\"."), max_size=12)


@given(
    st.sampled_from(["postgresql://", "mysql+pymysql://", "postgresql:/", "postgresql//", "", "sqlite://"]),
    words,
    words,
    st.sampled_from(["", ":5432", ":port"]),
    st.sampled_from(["", "/name", "/name?mode=ro", "?user=a@b"]),
)
def test_no_password_before_a_host_is_shown(scheme: str, before: str, after: str, port: str, rest: str) -> None:
    if scheme or not before.startswith("//"):
        assert "SECRET" not in shown(f"{scheme}me:{before}SECRET{after}@host{port}{rest}")


@given(words, words, st.sampled_from(["password", "passwd", "pwd", "sslpassword", "token", "secret", "api_key"]))
def test_no_password_in_a_query_is_shown(before: str, after: str, name: str) -> None:
    if "=" not in before + after:
        assert "SECRET" not in shown(f"postgresql://host/name?mode=ro&{name}={before}SECRET{after}")


def test_what_is_no_url_is_hidden_by_bounded_work() -> None:
    assert shown("postgresql://me:secret@" + "&" * 10**6) == "***"
    shown("&" * 4999)
    shown(":" * 4999)


def test_what_a_driver_says_is_repeated_without_secrets() -> None:
    said = "bad option 'p@ss' (p%40ss) of //me:other@host, token t-1"
    assert without_secrets(said, "p@ss", {"token": ("t-1", ""), "mode": "bad"}) == (
        "bad option '***' (***) of //me:***@host, token ***"
    )
