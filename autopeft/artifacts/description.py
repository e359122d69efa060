"""What a trained method was trained on and for, and the file that says so: `autopeft.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.foreign import brief, printable
from autopeft.methods.saved import read_json
from autopeft.plan import QUANTISED
from autopeft.space.candidate import Candidate
from autopeft.tasks.base import Task
from autopeft.tasks.heads import POOLINGS
from autopeft.tasks.named import read_task
from autopeft.tasks.own import NotNamed
from autopeft.training.precision import FLOAT32, PRECISIONS

DESCRIPTION = "autopeft.json"
VERSION = 2
"""Of what is written there."""
MERGED = "."


@dataclass(frozen=True)
class Description:
    """What a trained method was trained on and for."""

    backbone: str
    """Folder or hub name of the backbone; '.' when the folder itself holds the merged model."""
    task: Task
    max_length: int
    fingerprint: str = ""
    """Of the backbone's weights; empty where it is not known, or where they are in the folder."""
    revision: str | None = None
    """The hub's commit of the backbone; None where there is none."""
    precision: str = FLOAT32
    """What forward passes were computed in when scores were measured: 'bfloat16', 'float16' or 'float32'."""
    dtype: str = FLOAT32
    """What the backbone's weights were held in then, by the same names, or 'nf4' or 'int8'."""
    metric: str = ""
    """The file and name of what trials were judged by, where that is a function of the user's own; nothing needs it."""


def read_description(folder: Path) -> tuple[Description, Candidate]:
    """What a folder was trained on, and the candidate. Raises AutopeftError for a folder of others."""
    file = folder / DESCRIPTION
    plain = read_json(file, f"'{folder}' is no folder of a trained method")
    try:
        said = dict(plain if plain.get("version", 1) != 1 else _of_version_1(plain))
        if said.pop("version", 1) not in (1, VERSION):
            raise ValueError("a later version of autopeft wrote it")
        candidate = Candidate.from_dict(said.pop("candidate"))
        description = Description(**{**said, "task": read_task(said["task"])})
    except NotNamed as error:
        raise NotNamed(f"'{file}': {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, AutopeftError) as error:
        raise AutopeftError(f"'{file}' is damaged: {error}.") from error
    for name, right, value in (
        ("backbone", _is_name(description.backbone), description.backbone),
        (
            "max_length",
            type(description.max_length) is int and 0 < description.max_length < 2**31,
            description.max_length,
        ),
        ("fingerprint", isinstance(description.fingerprint, str), description.fingerprint),
        ("revision", description.revision is None or _is_name(description.revision), description.revision),
        ("precision", description.precision in PRECISIONS, description.precision),
        ("dtype", description.dtype in (*PRECISIONS, *QUANTISED), description.dtype),
        ("metric", isinstance(description.metric, str), description.metric),
        ("pooling", candidate.training.pooling in POOLINGS, candidate.training.pooling),
    ):
        if not right:
            raise AutopeftError(f"'{file}' is damaged: {name} is {brief(value)}.")
    return description, candidate


def describe(folder: Path, description: Description, candidate: Candidate) -> None:
    said = {each.name: getattr(description, each.name) for each in fields(description)}
    plain = {"version": VERSION, **said, "task": description.task.to_dict(), "candidate": candidate.to_dict()}
    (folder / DESCRIPTION).write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _of_version_1(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """What earlier versions wrote of text classification, as it is written now."""
    said = dict(plain["description"])
    task = {"name": said["task"], "text": said.pop("text"), "classes": said.pop("labels")}
    return {**said, "task": task, "candidate": plain["candidate"]}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) < 1000 and printable(value, "") == value
