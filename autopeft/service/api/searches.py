"""Searches over the network: begun, listed, looked at, stopped, gone on with, deleted."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from autopeft.errors import AutopeftError, unknown
from autopeft.fronts import latencies
from autopeft.objectives import SCORE
from autopeft.plan import AUTO, Budget, Plan, field_docs
from autopeft.reports.costs import lines
from autopeft.searching.deleting import delete as delete_search
from autopeft.searching.limits import extended
from autopeft.searching.search import name_of_new
from autopeft.service.allowed import allowed
from autopeft.service.listing import search as shown
from autopeft.service.listing import searches as listed
from autopeft.service.office import Office
from autopeft.service.problems import NotThere
from autopeft.service.security import Here, Reader, Runner
from autopeft.service.shapes import (
    Chosen,
    Deleted,
    Further,
    Name,
    NewSearch,
    Number,
    Place,
    Searches,
    Seeds,
    Shown,
    TrialJson,
    files,
)
from autopeft.service.uploads import forget
from autopeft.storage.queue import STATES, Entry, Errand
from autopeft.tasks.own import is_own

router = APIRouter(prefix="/searches", tags=["searches"])
_SQLITE = "application/vnd.sqlite3"
_MEDIA = {"html": "text/html", "json": "application/json", "csv": "text/csv"}
_SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report is one page with its scripts inside; in a sandbox it is of no site, and reaches nothing of this one."""
_DOCS = field_docs(Budget)


@router.get("", summary="List searches")
def list_searches(
    office: Here,
    _: Reader,
    state: Annotated[str | None, Query(description=f"Only those that are {', '.join(STATES)} or unfinished.")] = None,
    model: Annotated[str | None, Query(description="Only those whose model's name holds this.")] = None,
    data: Annotated[str | None, Query(description="Only those whose data's name holds this.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many to tell.")] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9, description="How many to leave out before them.")] = 0,
) -> Searches:
    """Those that wait in their order, then the others, the newest first."""
    found = [
        each
        for each in listed(office)
        if (state is None or each.state == state)
        and (model is None or model in each.model)
        and (data is None or data in each.data)
    ]
    return Searches(total=len(found), searches=found[offset : offset + limit])


@router.post("", status_code=201, summary="Begin a search")
def create(office: Here, token: Runner, new: NewSearch, response: Response) -> Shown:
    """The search waits until it is its turn."""
    plan = allowed(new.plan, office.settings)
    if plan.metric != AUTO and not is_own(plan.metric):
        require_metric(office, plan.metric)
    name = begin(office, plan, new.name, token.name)
    response.headers["location"] = f"/api/v1/searches/{name}"
    return shown(office, name)


def require_metric(office: Office, name: str) -> None:
    """Raises AutopeftError for one that no task has."""
    known = {metric for task in office.tasks for metric in task["metrics"]}
    if name not in known:
        raise unknown("metric", name, known)


def begin(office: Office, plan: Plan, name: str | None, begun_by: str) -> str:
    """A new search waits from now on; returns its name. Raises AutopeftError."""
    name = name_of_new(plan, name, office.names())
    office.queue.add(name, plan, begun_by)
    return name


@router.get("/{name}", summary="One search")
def one(office: Here, _: Reader, name: Name) -> Shown:
    """As lists have it."""
    return shown(office, name)


@router.delete("/{name}", summary="Delete a search")
def delete(office: Here, _: Runner, name: Name) -> Deleted:
    """Its trials, their weights, and prepared data that no other search uses; a running one is to be stopped first."""
    return take_away(office, name)


def take_away(office: Office, name: str) -> Deleted:
    """Deletes a search that does not run. Raises AutopeftError."""
    if (entry := office.entry(name)) is not None:
        office.queue.remove(name)
        forget(entry.plan.data, office.settings, office.data_in_use())
        office.settings.log_of(name).unlink(missing_ok=True)
    if office.repository.stamp(name) is None:
        return Deleted(trials=0, freed=0)
    done = delete_search(name, office.settings.storage)
    return Deleted(trials=done.trials, freed=done.freed)


@router.get("/{name}/front", summary="The front")
def front(office: Here, _: Reader, name: Name) -> list[TrialJson]:
    """Trials that no other beats in all objectives of the plan together, the best score first."""
    whole = office.begun(name).plain
    by_number = {each["number"]: each for each in whole["trials"]}
    return [by_number[number] for number in whole["front"]]


@router.get("/{name}/trials", summary="All trials")
def trials(office: Here, _: Reader, name: Name) -> list[TrialJson]:
    """As the JSON report has them."""
    found: list[dict[str, Any]] = office.begun(name).plain["trials"]
    return found


@router.get("/{name}/trials/{number}", summary="One trial")
def trial(office: Here, _: Reader, name: Name, number: Number) -> TrialJson:
    """As the JSON report has it."""
    return office.begun(name).plain_trial(number)


@router.get(
    "/{name}/search.db",
    response_class=Response,
    responses=files(_SQLITE),
    summary="All that is remembered",
)
def database(office: Here, _: Reader, name: Name) -> Response:
    """An SQLite database with this search alone, for `autopeft report --storage` and programs."""
    return Response(office.begun(name).database, media_type=_SQLITE)


@router.get(
    "/{name}/report.{format}",
    response_class=Response,
    responses=files(*_MEDIA.values()),
    summary="The report",
)
def report(
    office: Here, _: Reader, name: Name, format: Annotated[str, Path(description=f"{', '.join(_MEDIA)}.")]
) -> Response:
    """As a page (html), for programs (json), or for spreadsheets (csv)."""
    if format not in _MEDIA:
        raise NotThere(f"there is no report as '{format}'; give {', '.join(_MEDIA)}.")
    headers = {"content-security-policy": _SANDBOX} if format == "html" else {}
    return Response(office.begun(name).report(format), media_type=_MEDIA[format], headers=headers)


@router.get("/{name}/select", summary="The best trial within limits")
def select(
    office: Here,
    _: Reader,
    name: Name,
    prefer: Annotated[str, Query(description="The objective that decides.")] = SCORE,
    memory: Annotated[str | None, Query(description=_DOCS["memory"])] = None,
    trainable: Annotated[str | None, Query(description=_DOCS["trainable"])] = None,
    stored: Annotated[str | None, Query(description=_DOCS["stored"])] = None,
    flops: Annotated[str | None, Query(description=_DOCS["flops"])] = None,
    latency: Annotated[str | None, Query(description=_DOCS["latency"])] = None,
    score: Annotated[str | None, Query(description=_DOCS["score"])] = None,
) -> Chosen:
    """Limits are written as on the command line: 6GiB, 500k, 1%, 20ms."""
    given = {"memory": memory, "trainable": trainable, "stored": stored, "flops": flops}
    given |= {"latency": latency, "score": score}
    known = office.begun(name)
    search = known.search
    chosen = search.select(prefer=prefer, **{limit: value for limit, value in given.items() if value is not None})
    told = lines(chosen, search.record.metric, latencies(search.trials))
    return Chosen(trial=known.plain_trial(chosen.number), lines=list(told))


@router.post("/{name}/stop", summary="Stop a search")
def stop(office: Here, _: Runner, name: Name) -> Shown:
    """One that runs is interrupted, and keeps what it has; one that waits leaves the queue. Both can be resumed."""
    require_queued(office, name)
    office.queue.stop(name)
    return shown(office, name)


@router.post("/{name}/resume", summary="Go on with a search")
def resume(office: Here, token: Runner, name: Name) -> Shown:
    """One that was stopped, or failed, waits again."""
    office.again(name, Errand(), token.name)
    return shown(office, name)


@router.post("/{name}/extend", summary="Give a search more trials or time")
def extend(office: Here, token: Runner, name: Name, more: Further) -> Shown:
    """Both count from the search's beginning."""
    if more.trials is None and more.time is None:
        raise AutopeftError("give more trials, or more time, than the search has had.")
    if (known := office.known(name)) is not None:
        extended(known.search.record, more.trials, more.time)
    office.again(name, Errand(trials=more.trials, time=more.time), token.name)
    return shown(office, name)


@router.post("/{name}/confirm", summary="Confirm the front of a search")
def confirm(office: Here, token: Runner, name: Name, seeds: Seeds) -> Shown:
    """Train the front again with further seeds, and look at the test split."""
    office.again(name, Errand(seeds=seeds.seeds), token.name)
    return shown(office, name)


@router.post("/{name}/move", summary="Move a search in the queue")
def move(office: Here, _: Runner, name: Name, to: Place) -> Shown:
    """Only one that waits has a place."""
    require_queued(office, name)
    office.queue.move(name, to.place)
    return shown(office, name)


def require_queued(office: Office, name: str) -> Entry:
    """Raises NotThere for a search that no service was given."""
    if (entry := office.entry(name)) is None:
        raise NotThere(f"search '{name}' is not in the queue; a command line began it.")
    return entry
