"""How pages are made: who sees them, their templates, their style."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException

from autopeft.service.security import COOKIE, require_runner, session_of
from autopeft.storage.tokens import RUN, Token

_WORDS = ("", "name", "state", "front", "model", "begun", "method", "search", "best trial", "take away", "is", "fit")
"""Headings of columns that hold no numbers."""


def visitor(request: Request) -> Token:
    """Whoever is signed in; others are sent to where one signs in."""
    if (token := session_of(request)) is None:
        raise HTTPException(303, "sign in first.", {"location": "/sign-in"})
    return token


Visitor = Annotated[Token, Depends(visitor)]


def running(who: Visitor) -> Token:
    """Whoever is signed in, and may have something worked out."""
    require_runner(who)
    return who


RunningVisitor = Annotated[Token, Depends(running)]


def page(request: Request, who: Token, template: str, **values: Any) -> HTMLResponse:
    """A whole page for whoever is signed in."""
    word = request.app.state.sessions.word(request.cookies[COOKIE])
    return part(template, word=word, who=who, may_run=who.role == RUN, **values)


def part(template: str, **values: Any) -> HTMLResponse:
    return HTMLResponse(_templates().get_template(f"{template}.html.jinja").render(**values))


@cache
def _templates() -> Environment:
    loader = PackageLoader("autopeft.service.pages", ".")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals["words"] = _WORDS
    return made


@cache
def style() -> str:
    """The report's style, and what pages have beside it."""
    here = Path(__file__).parent
    report = (here.parents[1] / "reports" / "page.html.jinja").read_text(encoding="utf-8")
    of_report = report.split("<style>")[1].split("</style>")[0]
    return of_report + (here / "style.css").read_text(encoding="utf-8")
