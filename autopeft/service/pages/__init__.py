"""Pages for people: rendered here, from the same office as the API, in the report's own style.

What a page changes it asks of the API, by one small module of JavaScript: there is one way in, and one set of errors.
"""

import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup
from starlette.exceptions import HTTPException

from autopeft.reports import tables
from autopeft.reports.drawing import glance as drawn
from autopeft.reports.drawing import plot
from autopeft.reports.wording import plural
from autopeft.searching.whereabouts import has_weights
from autopeft.service.api.about import models_of
from autopeft.service.listing import search as shown_search
from autopeft.service.listing import searches as listed
from autopeft.service.office import Office
from autopeft.service.pages import deciding
from autopeft.service.pages.rendering import Visitor, page, part, style
from autopeft.service.security import Here
from autopeft.service.shapes import Shown
from autopeft.tasks.names import task_names

router = APIRouter(include_in_schema=False)
router.include_router(deciding.router)


@router.get("/")
def home() -> RedirectResponse:
    return RedirectResponse("/searches", 303)


@router.get("/sign-in")
def sign_in() -> HTMLResponse:
    return part("sign_in", word="", who=None)


@router.get("/searches")
def searches(request: Request, office: Here, who: Visitor) -> HTMLResponse:
    headings = ("name", "", "state", "front", "trials", "best", "model", "begun")
    return page(request, who, "searches", table=tables.Table(headings, [_row(each) for each in listed(office)]))


def _row(each: Shown) -> tuple[str, Markup, tuple[str, ...]]:
    path = f"/searches/{quote(each.name)}"
    mark = Markup('<input type="checkbox" name="of" value="{}" aria-label="Compare {}">').format(each.name, each.name)
    seen = Markup('<img class="glance" loading="lazy" src="{}/glance.svg" alt="its shape">').format(path)
    state = each.state + (f", place {each.place}" if each.place else "") + (", stopping" if each.stopping else "")
    if each.left is not None:
        state += f", about {math.ceil(each.left / 60)} min left"
    begun = f"{each.created:%Y-%m-%d %H:%M}" + (f" by {each.begun_by}" if each.begun_by else "")
    model = "/".join(each.model.split("/")[-2:])
    cells = (mark, state, "" if each.best is None else seen, str(each.trials), each.shown, model, begun)
    return "", Markup('<a href="{}">{}</a>').format(path, each.name), cells


@router.get("/new")
def new(request: Request, office: Here, who: Visitor) -> HTMLResponse:
    settings = office.settings
    offered = {
        "models": [*models_of(settings)],
        "tasks": [*sorted(task_names()), *settings.trusted_as("task")],
        "spaces": [*office.spaces],
        "metrics": settings.trusted_as("metric"),
        "roots": settings.data_roots,
    }
    limits = [(name, deciding.EXAMPLES[name]) for name in tables.SHOWN]
    return page(request, who, "new", limits=limits, hub=settings.hub, **offered)


@router.get("/searches/{name}")
def search(request: Request, office: Here, who: Visitor, name: str) -> HTMLResponse:
    return page(request, who, "search", search=shown_search(office, name), **_parts(office, name))


@router.get("/searches/{name}/parts")
def parts(office: Here, _: Visitor, name: str) -> HTMLResponse:
    """What of a search's page grows: the front, and its plot."""
    return part("front", name=name, **_parts(office, name))


@router.get("/searches/{name}/glance.svg")
def glance(office: Here, _: Visitor, name: str) -> Response:
    """Its front in a line of the list."""
    return Response(drawn(office.begun(name).findings.front), media_type="image/svg+xml")


@router.get("/static/{file}")
def static(file: str) -> Response:
    if file == "style.css":
        return Response(style(), media_type="text/css")
    if file == "module.js":
        return Response((Path(__file__).parent / file).read_text(encoding="utf-8"), media_type="text/javascript")
    raise HTTPException(404, "there is no such file.")


def _parts(office: Office, name: str) -> dict[str, Any]:
    if (known := office.known(name)) is None:
        return {"table": None, "plot": "", "count": ""}
    search, found = known.search, known.findings
    forms = (("", "adapter"), ("?form=merged", "merged"), ("?form=onnx", "ONNX"))
    link = Markup('<a href="/api/v1/searches/{}/trials/{}/winner.zip{}">{}</a>')
    headings, rows = tables.front(search.record, found)
    there = {str(each.number) for each in search.trials if has_weights(each)}
    linked = [
        (kind, first, (*cells, Markup(" ").join(link.format(quote(name), first, form, told) for form, told in forms)))
        if first and first in there
        else (kind, first, (*cells, ""))
        for kind, first, cells in rows
    ]
    table = tables.Table((*headings, "take away"), linked)
    count, drawing = plural(len(search.trials), "trial"), plot([(search.record, found.front)])
    return {"table": table, "plot": drawing, "count": count}
