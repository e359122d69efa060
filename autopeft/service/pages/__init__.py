"""Pages for people: rendered here, from the same office as the API, in the report's own style.

What a page changes it asks of the API, by one small module of JavaScript: there is one way in, and one set of errors.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException

from autopeft.objectives import SCORE, UNITS, show
from autopeft.reports.wording import plural
from autopeft.service.api.about import models_of
from autopeft.service.api.searches import shown as shown_search
from autopeft.service.listing import searches as listed
from autopeft.service.office import Office
from autopeft.service.pages.drawing import front_of
from autopeft.service.security import COOKIE, Here, session_of
from autopeft.storage.tokens import RUN, Token
from autopeft.tasks.names import task_names

router = APIRouter(include_in_schema=False)
_HERE = Path(__file__).parent
_LIMITS = ("memory", "trainable")


def visitor(request: Request) -> Token:
    """Whoever is signed in; others are sent to where one signs in."""
    if (token := session_of(request)) is None:
        raise HTTPException(303, "sign in first.", {"location": "/sign-in"})
    return token


Visitor = Annotated[Token, Depends(visitor)]


@router.get("/")
def home() -> RedirectResponse:
    return RedirectResponse("/searches", 303)


@router.get("/sign-in")
def sign_in() -> HTMLResponse:
    return HTMLResponse(_templates().get_template("sign_in.html.jinja").render(word="", who=None))


@router.get("/searches")
def searches(request: Request, office: Here, who: Visitor) -> HTMLResponse:
    return _page(request, who, "searches", searches=[(each, _best(each)) for each in listed(office)])


@router.get("/new")
def new(request: Request, office: Here, who: Visitor) -> HTMLResponse:
    settings = office.settings
    offered = {"models": [*models_of(settings)], "tasks": sorted(task_names()), "roots": settings.data_roots}
    limits = [(name, UNITS[name].metavar) for name in _LIMITS]
    return _page(request, who, "new", limits=limits, hub=settings.hub, **offered)


@router.get("/searches/{name}")
def search(request: Request, office: Here, who: Visitor, name: str) -> HTMLResponse:
    return _page(request, who, "search", search=shown_search(office, name), **_parts(office, name))


@router.get("/searches/{name}/parts")
def parts(office: Here, _: Visitor, name: str) -> HTMLResponse:
    """What of a search's page grows: the front, and its plot."""
    return HTMLResponse(_templates().get_template("front.html.jinja").render(name=name, **_parts(office, name)))


@router.get("/static/{file}")
def static(file: str) -> Response:
    if file == "style.css":
        return Response(_style(), media_type="text/css")
    if file == "module.js":
        return Response((_HERE / file).read_text(encoding="utf-8"), media_type="text/javascript")
    raise HTTPException(404, "there is no such file.")


def _parts(office: Office, name: str) -> dict[str, Any]:
    search = office.search(name)
    if search is None:
        return {"front": [], "plot": "", "baselines": [], "heading": "", "count": ""}
    record = search.record
    rows = [
        {
            "number": each.number,
            "method": each.candidate.name,
            "score": record.metric.show_with(each.value(SCORE), each.error),
            "costs": [show(cost, each.value(cost)) for cost in _LIMITS],
        }
        for each in search.front
    ]
    baselines = [(of, record.metric.show(each.score)) for of, each in record.baselines.items()]
    count = plural(len(search.trials), "trial")
    plot = front_of(record, search.front)
    return {"front": rows, "plot": plot, "baselines": baselines, "heading": record.metric.heading, "count": count}


def _best(each: Any) -> str:
    return "-" if each.best is None else f"{each.best:.3g}"


def _page(request: Request, who: Token, template: str, **values: Any) -> HTMLResponse:
    word = request.app.state.sessions.word(request.cookies[COOKIE])
    may_run = who.role == RUN
    whole = _templates().get_template(f"{template}.html.jinja")
    return HTMLResponse(whole.render(word=word, who=who, may_run=may_run, **values))


@cache
def _templates() -> Environment:
    loader = PackageLoader("autopeft.service.pages", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@cache
def _style() -> str:
    """The report's style, and what pages have beside it."""
    report = (_HERE.parents[1] / "reports" / "page.html.jinja").read_text(encoding="utf-8")
    of_report = report.split("<style>")[1].split("</style>")[0]
    return of_report + (_HERE / "style.css").read_text(encoding="utf-8")
