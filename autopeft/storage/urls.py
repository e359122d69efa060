"""URLs of databases as people may see them: the one way to show a URL, and to repeat what a driver says of it.

What may be a secret is hidden, also in text that is no URL at all: a slip of the keyboard must not print a password.
When in doubt more is hidden than needed. Nothing is imported, so that a command line can ask before anything else.
"""

import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
_MOST = 5000
"""Characters that are looked at; no longer text is a URL."""
_PLAIN = re.compile(
    "application_name|cache|charset|client_encoding|connect_timeout|database|dbname|driver|host|hostaddr|immutable|mode|"
    "nolock|port|sslmode|target_session_attrs|timeout|uri|user|username|vfs",
    re.IGNORECASE,
)
"""Names in a query whose values are shown; whatever has another name is hidden."""
_ACCOUNT = re.compile(r"((?:[\w+.-]+://+)?+[^:]*+):.*@", re.DOTALL)
"""What stands before a password, the password, and the last @: some passwords hold @, / and ?, written as they are."""
_NO_COLON = re.compile(r"((?:[\w+.-]+://+)?+[^:/@%]*+)[/@%][^?]*@")
"""A password after another sign than the colon that belongs there."""
_NO_PORT = re.compile(r"((?:[\w+.-]+:)?+//(?>\[[^\]]*\]|[^:/]*)):(?!\d{0,5}(?:[/?]|$))[^/?]*")
"""A password in the place of a port, where the host was forgotten."""
_PAIR = re.compile(r"([\w.%+-]+)\s*=\s*(.*?)(?=[&;?\s]+[\w.%+-]+\s*=|$)", re.DOTALL)
_NO_SECRET = re.compile(r"[\w.:/@\[\] -]*")
"""Values that are shown where their name is harmless."""
_NO_PAIR = re.compile(r"\?[^=?]+$")
_FILE = re.compile(r"sqlite(\+\w+)?:///")
_IN_A_FILE = re.compile(r"(///?)[^/:@]*:[^/@]*@")
_WITHIN = re.compile(r"(//[^\s/:@'\"]*):[^\s'\"]*@")


def shown(url: object) -> str:
    """A URL, or what was given in its place, without passwords, tokens and other secrets."""
    text = str(url)
    if len(text) > _MOST:
        return HIDDEN
    if _FILE.match(text):
        file, mark, query = text.partition("?")
        file = _IN_A_FILE.sub(rf"\1{HIDDEN}@", file)
        return file + mark + (_PAIR.sub(_pair, query) if "=" in query or not query else HIDDEN)
    if _ACCOUNT.match(text):
        text = _ACCOUNT.sub(rf"\1:{HIDDEN}@", text, count=1)
    elif _NO_COLON.match(text):
        text = _NO_COLON.sub(rf"\1:{HIDDEN}@", text, count=1)
    else:
        text = _NO_PORT.sub(rf"\1:{HIDDEN}", text, count=1)
    return _NO_PAIR.sub(f"?{HIDDEN}", _PAIR.sub(_pair, text))


def without_passwords(text: str) -> str:
    """Any text, without the password of a URL that somebody wrote where none belongs."""
    return _WITHIN.sub(rf"\1:{HIDDEN}@", text)


def without_secrets(text: str, password: object, query: object) -> str:
    """What somebody says of a database, without the secrets of its URL, whichever way they are written there."""
    for secret in sorted(_secrets(password, query), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return without_passwords(text)


def _pair(found: re.Match[str]) -> str:
    name = unquote(found[1])
    return found[0] if _PLAIN.fullmatch(name) and _NO_SECRET.fullmatch(found[2]) else f"{name}={HIDDEN}"


def _secrets(password: object, query: object) -> set[str]:
    found = {str(password)} if password else set()
    found |= set(_values(query))
    return {form for secret in found for form in (secret, quote(secret, safe=""), quote_plus(secret))}


def _values(query: object) -> Iterator[str]:
    if isinstance(query, str):
        yield from [query] if query else []
    elif isinstance(query, tuple | list):
        for each in query:
            yield from _values(each)
    elif hasattr(query, "items"):
        for name, value in query.items():
            if not _PLAIN.fullmatch(name):
                yield from _values(value)
