"""Errors as problem+json (RFC 9457): `detail` is the sentence that the command line prints."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from autopeft.errors import AutopeftError, NoSuchSearch
from autopeft.foreign import brief
from autopeft.service.shapes import Problem
from autopeft.storage.database import DatabaseRefuses
from autopeft.storage.queue import NotNow
from autopeft.storage.repository import NameTaken

PROBLEM = "application/problem+json"


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {"description": "What went wrong.", "content": {PROBLEM: {"schema": Problem.model_json_schema()}}}
}
"""What every path may answer, too."""


class Forbidden(AutopeftError):
    """What the operator of the service does not allow."""


class NotThere(AutopeftError):
    """A trial or an upload that there is not, or a search that has not begun."""


class TooLarge(AutopeftError):
    """More bytes than may come."""


class NoRoom(AutopeftError):
    """What the disk of the service does not take."""


class TooLong(AutopeftError):
    """What takes longer than anybody would wait."""


class Busy(AutopeftError):
    """More is asked for at a time than is answered."""


_STATUS: dict[type[AutopeftError], HTTPStatus] = {
    Forbidden: HTTPStatus.FORBIDDEN,
    NotThere: HTTPStatus.NOT_FOUND,
    NoSuchSearch: HTTPStatus.NOT_FOUND,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NoRoom: HTTPStatus.INSUFFICIENT_STORAGE,
    TooLong: HTTPStatus.GATEWAY_TIMEOUT,
    NameTaken: HTTPStatus.CONFLICT,
    NotNow: HTTPStatus.CONFLICT,
    Busy: HTTPStatus.SERVICE_UNAVAILABLE,
    DatabaseRefuses: HTTPStatus.SERVICE_UNAVAILABLE,
}


def status_of(error: AutopeftError) -> HTTPStatus:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)


def not_written(error: OSError) -> NoRoom:
    """What is told where the service cannot write: not where that would have been."""
    return NoRoom(f"the service cannot write to its disk: {error.strerror or 'it is full'}; ask its operator.")


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """A response that tells what was wrong."""
    whole = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(whole, status, headers, PROBLEM)


def answer_by_problems(app: FastAPI) -> None:
    """All errors of an app are answered so; what is a defect of ours tells nothing of itself."""

    @app.exception_handler(AutopeftError)
    async def _(_: Request, error: AutopeftError) -> JSONResponse:
        return problem(status_of(error), str(error))

    @app.exception_handler(HTTPException)
    async def _(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(map(_told, error.errors()[:5])) + ".")

    @app.exception_handler(Exception)
    async def _(_: Request, __: Exception) -> JSONResponse:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "a defect of autopeft's; the log of the service tells more.")


def _told(error: dict[str, Any]) -> str:
    where = ".".join(str(each) for each in error["loc"][1:]) or str(error["loc"][0])
    return f"{where[:100]}: {error['msg']}, not {brief(error.get('input'))}"
