"""Pages that help to decide: what fits before a search, which trial after it, which of several searches, and a try."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from autopeft.errors import AutopeftError
from autopeft.fronts import latencies, limits_that_matter
from autopeft.objectives import COSTS, SCORE
from autopeft.plan import Budget
from autopeft.reports import tables
from autopeft.reports.comparing import compare as compared
from autopeft.reports.costs import lines
from autopeft.reports.drawing import plot
from autopeft.reports.findings import no_gain
from autopeft.reports.wording import describe_fully
from autopeft.service.api.about import estimated, measures
from autopeft.service.known import Known
from autopeft.service.pages.rendering import RunningVisitor, Visitor, page, part
from autopeft.service.security import Here
from autopeft.service.shapes import Asked

router = APIRouter()
_CHOICE = (*tables.SHOWN, "latency", SCORE)
EXAMPLES = {"memory": "8GiB", "trainable": "500k or 1%", "latency": "20ms", SCORE: "0.9"}
"""How limits are written."""
_LENGTH, _MOST_LENGTH = 128, 8192
"""Tokens of the texts that costs are estimated for: while nobody has looked at any, and at most."""


@router.get("/new/fits")
def fits(
    request: Request,
    office: Here,
    _: RunningVisitor,
    model: Annotated[str, Query(alias="plan.model", min_length=1)],
) -> HTMLResponse:
    """Which methods keep the limits of a form, as far as that is known before a search."""
    given = request.query_params
    try:
        budget = Budget(**{name: given.get(f"plan.budget.{name}") or None for name in tables.SHOWN})
        measured = measures(office, model)
        budget = budget.resolved(measured["parameters"])
        length = min(int(given.get("tokens") or _LENGTH), measured["positions"] or _MOST_LENGTH)
        chosen = {each: value for each in ("task", "space") if (value := given.get(f"plan.{each}"))}
        asked = Asked.model_validate({"model": model, "length": length, **chosen})
        table = tables.fitting(estimated(office, asked)["methods"], budget)
        return part("fits", refused="", length=length, rows=asked.batch_size, table=table)
    except AutopeftError as error:
        return part("fits", refused=str(error))
    except ValueError:
        return part("fits", refused="texts have so many tokens as a whole number from 1 on says.")


@router.get("/searches/{name}/choose")
def choose(request: Request, office: Here, who: Visitor, name: str) -> HTMLResponse:
    known, given = office.begun(name), request.query_params
    metric = known.findings.metric
    least = f"{metric.heading} at {'least' if metric.higher_is_better else 'most'}"
    limits = [
        (
            each,
            least if each == SCORE else f"{COSTS[each].heading if each in COSTS else each} at most",
            EXAMPLES[each],
            given.get(each, ""),
            limits_that_matter(known.search.trials, each, metric),
        )
        for each in _CHOICE
    ]
    return page(request, who, "choose", name=name, limits=limits, **_chosen(known, given))


@router.get("/searches/{name}/chosen")
def chosen(request: Request, office: Here, _: Visitor, name: str) -> HTMLResponse:
    """The choice alone, while its limits are moved."""
    return part("chosen", name=name, **_chosen(office.begun(name), request.query_params))


def _chosen(known: Known, given: Any) -> dict[str, Any]:
    search, found = known.search, known.findings
    try:
        best = search.select(**{each: value for each in _CHOICE if (value := given.get(each, "").strip())})
    except AutopeftError as error:
        return {"refused": str(error)}
    return {
        "refused": "",
        "chosen": best,
        "described": describe_fully(best.candidate, search.record.of_task),
        "gain": no_gain(search.record, best),
        "table": tables.choice(search.record, found, best),
        "plot": plot([(search.record, found.front)], best.number),
        "lines": lines(best, found.metric, latencies(search.trials)),
    }


@router.get("/compare")
def compare(request: Request, office: Here, who: Visitor, of: Annotated[tuple[str, ...], Query()] = ()) -> HTMLResponse:
    """Searches on the same data beside each other."""
    try:
        known = [office.begun(name) for name in of]
        said = compared([each.search.record for each in known])
    except AutopeftError as error:
        return page(request, who, "compare", refused=str(error))
    drawing = plot([(each.search.record, each.findings.front) for each in known])
    return page(request, who, "compare", refused="", said=said, plot=drawing)


@router.get("/searches/{name}/trials/{number}/try")
def attempt(request: Request, office: Here, who: Visitor, name: str, number: int) -> HTMLResponse:
    """A text in, the trained model's answer out."""
    known = office.begun(name)
    search, trial = known.search, known.trial(number)
    described = describe_fully(trial.candidate, search.record.of_task)
    pair = len(search.plan.text) == 2
    return page(request, who, "try", name=name, number=number, pair=pair, described=described)
