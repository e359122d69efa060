"""Who may ask the service: tokens by name, each with a role. A token is told once, and kept as a hash.

A token is 256 random bits, so that one round of SHA-256 is enough: nobody guesses what belongs to a hash.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief
from autopeft.storage.opened import Opened
from autopeft.storage.service import TokenRow

READ, RUN = "read", "run"
ROLES = (READ, RUN)
"""What a token allows: to look at everything; also to begin, change and delete searches."""
_NAME = re.compile(r"\w[\w.@ -]{0,99}")
_PREFIX = "apt_"
"""So that a token is known for what it is wherever it turns up."""


@dataclass(frozen=True)
class Token:
    """One token as it is remembered."""

    id: int
    name: str
    role: str
    created: datetime
    revoked: datetime | None


class Tokens:
    """The tokens of a database."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def add(self, name: str, role: str) -> str:
        """Makes a token, and tells it: nobody can again. Raises AutopeftError."""
        if role not in ROLES:
            raise unknown("role", role, ROLES)
        if not _NAME.fullmatch(name):
            raise AutopeftError(f"a token cannot be named {brief(name)}; use letters, digits, '-', '_', '.' and '@'.")
        token = _PREFIX + secrets.token_urlsafe(32)

        def work(session: Session) -> None:
            if session.scalar(select(TokenRow.id).where(TokenRow.name == name)) is not None:
                raise AutopeftError(f"there is a token named '{name}', or was one; give another name.")
            session.add(TokenRow(name=name, digest=_digest(token), role=role, created=datetime.now(UTC)))

        self._opened.write(work)
        return token

    def all(self) -> tuple[Token, ...]:
        """Also those that are revoked, in the order in which they were made."""
        with self._opened.reading() as session:
            return tuple(_token(row) for row in session.scalars(select(TokenRow).order_by(TokenRow.id)))

    def revoke(self, name: str) -> None:
        """From now on the token is nobody's, nor are sessions that it began. Raises AutopeftError."""

        def work(session: Session) -> None:
            row = session.scalar(select(TokenRow).where(TokenRow.name == name, TokenRow.revoked.is_(None)))
            if row is None:
                known = session.scalars(select(TokenRow.name).where(TokenRow.revoked.is_(None)))
                raise unknown("token", name, known)
            row.revoked = datetime.now(UTC)

        self._opened.write(work)

    def of(self, token: str) -> Token | None:
        """Whose token this is; None where it is nobody's."""
        return self._one(TokenRow.digest == _digest(token))

    def by_id(self, number: int) -> Token | None:
        """A token that is not revoked."""
        return self._one(TokenRow.id == number)

    def _one(self, condition: ColumnElement[bool]) -> Token | None:
        with self._opened.reading() as session:
            row = session.scalar(select(TokenRow).where(condition, TokenRow.revoked.is_(None)))
            return _token(row) if row is not None else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _token(row: TokenRow) -> Token:
    return Token(row.id, row.name, row.role, row.created, row.revoked)
