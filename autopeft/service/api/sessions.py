"""Sessions of browsers: a token is exchanged for a cookie that scripts cannot read and other sites cannot use."""

from fastapi import APIRouter, Request, Response

from autopeft.service.security import COOKIE, LASTS, Reader, session_of, signed_in
from autopeft.service.shapes import Session, SignIn

router = APIRouter(prefix="/session", tags=["sessions"])


@router.post("", summary="Sign in")
def sign_in(request: Request, response: Response, given: SignIn) -> Session:
    """Sets the cookie; programs need none, and send their token."""
    sessions = request.app.state.sessions
    token = signed_in(request, given.token.strip())
    cookie = sessions.cookie(token)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, cookie, max_age=LASTS, secure=secure, httponly=True, samesite="strict")
    return Session(name=token.name, role=token.role, word=sessions.word(cookie))


@router.get("", summary="Who is signed in")
def who(request: Request, token: Reader) -> Session:
    """With the word that a page has to send; empty for programs."""
    word = request.app.state.sessions.word(request.cookies[COOKIE]) if session_of(request) else ""
    return Session(name=token.name, role=token.role, word=word)


@router.delete("", status_code=204, summary="Sign out")
def sign_out(_: Reader, response: Response) -> None:
    """The browser forgets its cookie."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
