"""Trained models: taken away whole, or asked here."""

import shutil
import tempfile
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from autopeft.service import work
from autopeft.service.code import trusted_of
from autopeft.service.office import Office
from autopeft.service.problems import not_written
from autopeft.service.security import Here, Reader
from autopeft.service.shapes import Answer, Question, files

router = APIRouter(prefix="/searches/{name}/trials/{number}", tags=["winners"])
_EXPORTING, _ANSWERING = 1800.0, 120.0
"""Seconds that each may take."""


@router.get(
    "/winner.zip",
    response_class=FileResponse,
    responses=files("application/zip"),
    summary="Take a trained model away",
)
def winner(
    office: Here,
    _: Reader,
    name: str,
    number: int,
    form: Annotated[
        Literal["peft", "merged", "onnx"], Query(description="Method and head, one model, or one ONNX file.")
    ] = "peft",
) -> FileResponse:
    """A folder with a model card, as one zip file."""
    settings, asked = office.settings, _asked(office, name, number)
    trusted: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    trusted |= trusted_of(office.begun(name).plan, settings.trusted_code.values(), ("task", "space"))
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
        to = tempfile.mkdtemp(prefix="export-", dir=settings.folder.absolute())
    except OSError as error:
        raise not_written(error) from error
    try:
        file = office.apart.run(_EXPORTING, work.export, form=form, to=to, trusted=trusted, **asked)
    except BaseException:
        shutil.rmtree(to, ignore_errors=True)
        raise
    gone = BackgroundTask(shutil.rmtree, to, ignore_errors=True)
    return FileResponse(file, media_type="application/zip", filename=f"{name}-{number}-{form}.zip", background=gone)


@router.post("/answer", summary="Ask a trained model")
def answer(office: Here, _: Reader, name: str, number: int, question: Question) -> Answer:
    """What it makes of a text, beside what needs no fine-tuning. One model at a time is held in memory."""
    remote = {"trust_remote_code": office.settings.trust_remote_code}
    asked = {**_asked(office, name, number), **question.model_dump(), **remote}
    return Answer(**office.answering.run(_ANSWERING, work.answer, **asked))


def _asked(office: Office, name: str, number: int) -> dict[str, Any]:
    """A trial, for a process that finds it by itself. Raises NotThere."""
    office.trial(name, number)
    folder = str(office.settings.folder.absolute())
    return {"search": name, "number": number, "storage": office.settings.storage, "folder": folder}
