"""Who asks, and what every answer says to browsers: tokens and sessions, forged forms, sizes, headers.

Programs send a token in `Authorization: Bearer`. Browsers send a signed cookie that a token was exchanged for, which no
script can read and no other site makes them send; whatever changes something needs a second word, which only our pages
know. Who gives wrong tokens too often waits.
"""

import hmac
import secrets
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from anyio import fail_after
from fastapi import Depends, Request
from itsdangerous import BadSignature, Signer, URLSafeTimedSerializer
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autopeft.files import beside
from autopeft.service.metrics import observed
from autopeft.service.office import Office
from autopeft.service.problems import problem
from autopeft.sizes import show_bytes
from autopeft.storage.tokens import RUN, Token, Tokens

COOKIE = "autopeft"
CSRF = "x-csrf-token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
LASTS = 12 * 3600
"""Seconds that a session lasts."""
_BODY = 2**20
"""Bytes of a request that is no upload."""
_FORM = 2**16
"""Bytes of what stands around a file in an upload."""
_FAILURES = parse("10 per minute")
PATIENCE = 60.0
"""Seconds until the next piece of a request."""
_UPLOADING = "/api/v1/uploads"


class Sessions:
    """Makes cookies of tokens and reads them; the secret lies in the run folder, so that restarts end no session."""

    def __init__(self, folder: Path) -> None:
        secret = _secret(folder.absolute() / "service.secret")
        self._cookies = URLSafeTimedSerializer(secret, salt="session")
        self._words = Signer(secret, salt="csrf")
        self.failures = MovingWindowRateLimiter(MemoryStorage())

    def cookie(self, token: Token) -> str:
        # Services on one run folder share the secret, and may have databases of their own, with tokens of their own.
        return str(self._cookies.dumps([token.id, token.created.isoformat(), secrets.token_hex(8)]))

    def token(self, cookie: str, tokens: Tokens) -> Token | None:
        """Whose cookie it is; None for one that was not made here, or is too old, and where the token is revoked."""
        try:
            number, created, _ = self._cookies.loads(cookie, max_age=LASTS)
        except (BadSignature, ValueError, TypeError):
            return None
        token = tokens.by_id(number) if isinstance(number, int) else None
        return token if token is not None and token.created.isoformat() == created else None

    def word(self, cookie: str) -> str:
        """What a form or a request that changes something has to carry beside the cookie."""
        return self._words.get_signature(cookie).decode()

    def require_word(self, request: Request, given: str) -> None:
        if not hmac.compare_digest(self.word(request.cookies.get(COOKIE, "")).encode(), given.encode()):
            raise HTTPException(HTTPStatus.FORBIDDEN, "this did not come from a page of the service; load it again.")


def office_of(request: Request) -> Office:
    office: Office = request.app.state.office
    return office


def signed_in(request: Request, given: str) -> Token:
    """Whose token this is. Raises HTTPException; 429 for an address that gave too many wrong ones."""
    sessions: Sessions = request.app.state.sessions
    address = request.client.host if request.client else ""
    # A good token is let in whoever gave wrong ones before: behind a proxy all may have one address.
    if (token := office_of(request).tokens.of(given)) is not None:
        return token
    if not sessions.failures.hit(_FAILURES, address):
        raise HTTPException(
            HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens came from here; wait a minute.", {"Retry-After": "60"}
        )
    raise _unknown("this token is not known, or was revoked.")


def session_of(request: Request) -> Token | None:
    """Whose session the request's cookie is; None where it is nobody's any more."""
    sessions: Sessions = request.app.state.sessions
    return sessions.token(request.cookies.get(COOKIE, ""), office_of(request).tokens)


def reader(request: Request) -> Token:
    """Whoever asks, by token or by session."""
    given = request.headers.get("authorization")
    if given is not None:
        scheme, _, told = given.partition(" ")
        if scheme.lower() != "bearer":
            raise _unknown("give a token as 'Authorization: Bearer …'.")
        return signed_in(request, told.strip())
    token = session_of(request)
    if token is None:
        raise _unknown("sign in, or give a token as 'Authorization: Bearer …'.")
    if request.method not in _SAFE:
        request.app.state.sessions.require_word(request, request.headers.get(CSRF, ""))
    return token


def runner(token: Annotated[Token, Depends(reader)]) -> Token:
    """Whoever asks, and may change something."""
    require_runner(token)
    return token


def require_runner(token: Token) -> None:
    if token.role != RUN:
        raise HTTPException(HTTPStatus.FORBIDDEN, f"the token '{token.name}' may read, not run; use another one.")


Here = Annotated[Office, Depends(office_of)]
Reader = Annotated[Token, Depends(reader)]
Runner = Annotated[Token, Depends(runner)]


class Guard:
    """Around the whole app: sizes of requests, requests of other sites, and headers of answers."""

    def __init__(self, app: ASGIApp, upload_limit: int) -> None:
        self._app = app
        self._upload_limit = upload_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        sender = _with_headers(observed(scope, send))
        most = self._upload_limit + _FORM if scope["path"] == _UPLOADING else _BODY
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > most:
            await problem(413, f"a request may hold {show_bytes(most)} here, not more.")(scope, receive, sender)
        elif scope["method"] not in _SAFE and _is_of_another_site(headers):
            await problem(403, "this came from a page of another site.")(scope, receive, sender)
        else:
            await self._app(scope, _counted(receive, most), sender)


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sender


def _counted(receive: Receive, most: int) -> Receive:
    """Also requests that say nothing, or something wrong, of their length; who sends nothing for long is let go."""
    had, more = 0, True

    async def receiver() -> Message:
        nonlocal had, more
        try:
            with fail_after(PATIENCE if more else None):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the rest of the request did not come; send it again.") from None
        more = message.get("more_body", False)
        had += len(message.get("body", b""))
        if had > most:
            raise HTTPException(413, f"a request may hold {show_bytes(most)} here, not more.")
        return message

    return receiver


def _is_of_another_site(headers: dict[str, str]) -> bool:
    """Browsers say which site's page sent a form; programs say nothing."""
    if (origin := headers.get("origin")) is None:
        return False
    try:
        return urlsplit(origin).netloc != headers.get("host")
    except ValueError:
        return True


def _unknown(why: str) -> HTTPException:
    return HTTPException(HTTPStatus.UNAUTHORIZED, why, {"WWW-Authenticate": "Bearer"})


def _secret(file: Path) -> str:
    """The secret of all services of this run folder; made once, whole, and read by nobody else."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        made = beside(file)
        made.touch(0o600)
        made.write_text(secrets.token_hex(32))
        with suppress(FileExistsError):
            file.hardlink_to(made)
        made.unlink()
    return file.read_text()
