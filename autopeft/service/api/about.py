"""What a team can search with: methods, tasks, spaces, models; data before a search, and costs; how the service is."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from autopeft.errors import unknown
from autopeft.plan import AUTO, Plan
from autopeft.service import work
from autopeft.service.allowed import allowed_code, data_place, model_place
from autopeft.service.metrics import exposed
from autopeft.service.office import Office
from autopeft.service.security import Here, Reader, Runner
from autopeft.service.settings import Settings
from autopeft.service.shapes import (
    Asked,
    Data,
    Estimates,
    Health,
    MethodJson,
    SpaceShown,
    TaskShown,
    Understood,
    Uploaded,
    Versions,
    files,
)
from autopeft.service.uploads import receive
from autopeft.space.space import named_spaces
from autopeft.storage.queue import RUNNING, WAITING

router = APIRouter()
_UNDERSTANDING, _ESTIMATING = 120.0, 300.0
"""Seconds that each may take."""
_DEPTH = 6
"""Folders below a root in which models are looked for."""
_MOST_MODELS = 500


@router.get("/health", tags=["service"], summary="Whether the service works")
def health(office: Here) -> Health:
    """Needs no token."""
    states = office.queue.states()
    return Health(status="ok", running=states[RUNNING], waiting=states[WAITING])


@router.get("/metrics", tags=["service"], response_class=PlainTextResponse, summary="Metrics for Prometheus")
def metrics(office: Here, _: Reader) -> PlainTextResponse:
    """Searches and trials by state, GPUs, requests, and the service's own memory; also at /metrics."""
    return PlainTextResponse(exposed(office), media_type=CONTENT_TYPE_LATEST)


@router.get("/version", tags=["service"], summary="Versions")
def version() -> Versions:
    """Needs no token."""
    return Versions(autopeft=version_of("autopeft"), api="1")


_BODY = {"requestBody": {"required": True, "content": files("application/octet-stream")[200]["content"]}}


@router.post("/uploads", status_code=201, tags=["data"], summary="Upload a file", openapi_extra=_BODY)
async def upload(
    office: Here,
    _: Runner,
    request: Request,
    name: Annotated[str, Query(max_length=200, description="Its plain name, such as reviews.csv.")],
) -> Uploaded:
    """The body is the file itself: `curl --data-binary @reviews.csv …/uploads?name=reviews.csv`."""
    used = await to_thread.run_sync(office.data_in_use)
    data, size = await receive(name, request.stream(), office.settings, used)
    return Uploaded(data=data, bytes=size)


@router.post("/understand", tags=["data"], summary="Look at data before a search")
def understand(office: Here, _: Runner, asked: Data) -> Understood:
    """Columns, the first rows, the task as it is understood, and notes."""
    return Understood(**understood(office, asked.data, asked.plan))


def understood(office: Office, data: str, plan: dict[str, Any]) -> dict[str, Any]:
    """What a search would make of the data. Raises AutopeftError."""
    asked = allowed_code(Plan.from_dict({"model": "none", **plan, "data": data}), office.settings)
    asked = replace(asked, data=data_place(data, office.settings))
    found: dict[str, Any] = office.apart.run(_UNDERSTANDING, work.understand, plan=asked.to_dict())
    return found


@router.post("/estimate", tags=["costs"], summary="What every method costs on a model")
def estimate(office: Here, _: Runner, asked: Asked) -> Estimates:
    """Nothing is trained; the same JSON as `autopeft estimate --json`."""
    return Estimates(**estimated(office, asked))


def estimated(office: Office, asked: Asked) -> dict[str, Any]:
    """What every method costs. Raises AutopeftError."""
    if asked.space == AUTO:
        raise unknown("space", AUTO, named_spaces())
    code = allowed_code(Plan("none", "none", task=asked.task or AUTO, space=asked.space), office.settings)
    options = {**asked.model_dump(), "model": model_place(asked.model, office.settings), "space": code.space}
    options["task"] = code.task if asked.task else None
    options["trust_remote_code"] = office.settings.trust_remote_code
    key = ("estimate", json.dumps(options, sort_keys=True))
    found: dict[str, Any] = office.kept(key, lambda: office.apart.run(_ESTIMATING, work.estimate, asked=options))
    return found


def measures(office: Office, model: str) -> dict[str, Any]:
    """How many parameters a model has, and how many tokens it reads. Raises AutopeftError."""
    place, remote = model_place(model, office.settings), office.settings.trust_remote_code
    asked = {"model": place, "trust_remote_code": remote}
    found: dict[str, Any] = office.kept(
        ("measures", place), lambda: office.apart.run(_UNDERSTANDING, work.measures, **asked)
    )
    return found


@router.get("/methods", tags=["what there is"], summary="All methods and hybrids")
def methods(office: Here, _: Reader) -> list[MethodJson]:
    """With what each trains on a BERT-base, at its defaults."""
    found: list[MethodJson] = office.methods
    return found


@router.get("/tasks", tags=["what there is"], summary="All tasks")
def tasks(office: Here, _: Reader) -> list[TaskShown]:
    """With the columns that they read, and their metrics; then the operator's, of which nothing is run to tell more."""
    own = [
        {"name": each, "summary": "Code that the operator of this service trusts.", "roles": {}, "metrics": []}
        for each in office.settings.trusted_as("task")
    ]
    return [TaskShown(**each) for each in (*office.tasks, *own)]


@router.get("/spaces", tags=["what there is"], summary="All search spaces")
def spaces(office: Here, _: Reader) -> list[SpaceShown]:
    """Those that come with the package, and the operator's."""
    return [
        SpaceShown(name=name, summary=each.summary, methods=[*each.methods], hybrids=[*each.hybrids])
        for name, each in office.spaces.items()
    ]


@router.get("/models", tags=["what there is"], summary="Models on this machine")
def models(office: Here, _: Reader) -> list[str]:
    """Below the service's folders for models; a plan names them so."""
    return [*models_of(office.settings)]


def models_of(settings: Settings) -> Iterator[str]:
    """Paths of folders with a config.json and weights, from their roots where there is one root."""
    found = 0
    for root in settings.model_roots:
        real = Path(os.path.realpath(root))
        for where, folders, held in os.walk(real):
            folder = Path(where)
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            if len(folder.relative_to(real).parts) >= _DEPTH:
                folders.clear()
            if "config.json" in held and any(file.endswith((".safetensors", ".bin")) for file in held):
                folders.clear()
                found += 1
                yield str(folder)
            if found >= _MOST_MODELS:
                return
