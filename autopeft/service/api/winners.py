"""Trained models: taken away whole, or asked here."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from autopeft.files import remove_old
from autopeft.service import work
from autopeft.service.code import trusted_of
from autopeft.service.office import Office
from autopeft.service.problems import not_written
from autopeft.service.security import Here, Reader
from autopeft.service.shapes import Answer, Name, Number, Question, files

router = APIRouter(prefix="/searches/{name}/trials/{number}", tags=["winners"])
_EXPORTING, _ANSWERING = 1800.0, 120.0
"""Seconds that each may take."""
_PREFIX = "export-"
"""How the folders begin in which winners are put together."""
_PIECE = 2**20


@router.get(
    "/winner.zip",
    response_class=StreamingResponse,
    responses=files("application/zip"),
    summary="Take a trained model away",
)
def winner(
    office: Here,
    _: Reader,
    name: Name,
    number: Number,
    form: Annotated[
        Literal["peft", "merged", "onnx"], Query(description="Method and head, one model, or one ONNX file.")
    ] = "peft",
) -> StreamingResponse:
    """A folder with a model card, as one zip file."""
    settings, asked = office.settings, _asked(office, name, number)
    trusted = {"trust_remote_code": settings.trust_remote_code, **_trusted(office, name)}
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
        # What services left that were killed while they exported.
        remove_old(settings.folder.glob(f"{_PREFIX}*"), 2 * _EXPORTING)
        made = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=settings.folder.absolute())
    except OSError as error:
        raise not_written(error) from error
    # Nothing is left of it, however the answer ends: who has opened a file reads it when its place is gone.
    with made as to:
        file = office.apart.run(_EXPORTING, work.export, form=form, to=to, trusted=trusted, **asked)
        opened = Path(file).open("rb")  # noqa: SIM115 (the answer closes it)
    called = quote(f"{name}-{number}-{form}.zip")
    headers = {
        "content-length": str(os.fstat(opened.fileno()).st_size),
        "content-disposition": f"attachment; filename*=utf-8''{called}",
    }
    return StreamingResponse(_pieces(opened), media_type="application/zip", headers=headers)


def _pieces(opened: BinaryIO) -> Iterator[bytes]:
    with opened:
        while piece := opened.read(_PIECE):
            yield piece


@router.post("/answer", summary="Ask a trained model")
def answer(office: Here, _: Reader, name: Name, number: Number, question: Question) -> Answer:
    """What it makes of a text, beside what needs no fine-tuning. One model at a time is held in memory."""
    remote, own = office.settings.trust_remote_code, [*_trusted(office, name).values()]
    asked = {**_asked(office, name, number), **question.model_dump(), "trust_remote_code": remote, "own": own}
    return Answer(**office.answering.run(_ANSWERING, work.answer, **asked))


def _trusted(office: Office, name: str) -> dict[str, Any]:
    """Code that a winner of the search is read with, as far as the operator trusts it."""
    return trusted_of(office.begun(name).search.plan, office.settings.trusted_code.values(), ("task", "space"))


def _asked(office: Office, name: str, number: int) -> dict[str, Any]:
    """A trial, for a process that finds it by itself. Raises NotThere."""
    office.begun(name).trial(number)
    folder = str(office.settings.folder.absolute())
    return {"search": name, "number": number, "storage": office.settings.storage, "folder": folder}
