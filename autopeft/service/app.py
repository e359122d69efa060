"""The service: joins the API, the pages, the queue's keeper, and what guards them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI

from autopeft.service import pages
from autopeft.service.api import about, following, searches, sessions, winners
from autopeft.service.keeper import Keeper
from autopeft.service.office import Office
from autopeft.service.problems import PROBLEMS, answer_by_problems
from autopeft.service.security import Guard, Sessions
from autopeft.service.settings import Settings

DESCRIPTION = """Searches for the best parameter-efficient fine-tuning method, for a team. Send a token as
`Authorization: Bearer`. Errors are problem+json (RFC 9457), whose `detail` is the sentence of the command line."""


def create_app(settings: Settings, keeps_queue: bool = True) -> FastAPI:
    """The app. It keeps the queue going while it runs, unless another one does. Raises AutopeftError."""
    office = Office(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        keeper = Keeper(settings, office.opened)
        if keeps_queue:
            keeper.start()
        try:
            yield
        finally:
            if keeps_queue:
                keeper.close()
            office.close()

    app = FastAPI(
        title="autopeft",
        version=version("autopeft"),
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # Their scripts come from elsewhere.
        redoc_url=None,
    )
    app.state.office = office
    app.state.sessions = Sessions(settings.folder)
    answer_by_problems(app)
    app.add_middleware(Guard, upload_limit=settings.upload_limit)
    api = APIRouter(prefix="/api/v1", responses=PROBLEMS)
    for each in (searches, following, winners, about, sessions):
        api.include_router(each.router)
    app.include_router(api)
    app.add_api_route("/metrics", about.metrics, include_in_schema=False)  # Where Prometheus looks.
    app.include_router(pages.router)
    return app
