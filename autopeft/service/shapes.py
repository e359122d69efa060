"""What requests and answers of the API hold, as its document describes it.

The fields of a plan are described by the plan's own docstrings, and checked by the plan itself, so that the answer to a
slip is the sentence of the command line.
"""

from dataclasses import MISSING, fields
from datetime import datetime
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, Field, WithJsonSchema

from autopeft.plan import AUTO, DTYPES, Budget, Plan, field_docs

_TEXT = {"type": "string"}
_KINDS: dict[Any, dict[str, Any]] = {
    str: _TEXT,
    str | None: _TEXT,
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    int | None: {"type": "integer"},
    float | None: {"anyOf": [_TEXT, {"type": "number"}]},
    tuple[str, ...]: {"anyOf": [{"type": "array", "items": _TEXT}, _TEXT]},
    Budget: {},
}
_COLUMNS = {"type": "object", "additionalProperties": _KINDS[tuple[str, ...]]}


def schema_of(kind: type, *leave_out: str) -> dict[str, Any]:
    """The JSON schema of a dataclass of the plan, from its fields and their docstrings."""
    hints, docs = get_type_hints(kind), field_docs(kind)
    properties: dict[str, Any] = {}
    for each in fields(kind):
        if each.name in leave_out or each.name not in docs:
            continue
        shape = schema_of(Budget) if hints[each.name] is Budget else _KINDS.get(hints[each.name], _COLUMNS)
        known = each.default not in (None, MISSING) and not isinstance(each.default, tuple)
        default = {"default": each.default} if known else {}
        properties[each.name] = {**shape, "description": docs[each.name], **default}
    needed = [each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]
    needed = [name for name in needed if name in properties]
    return {"type": "object", "properties": properties, **({"required": needed} if needed else {})}


PlanJson = Annotated[dict[str, Any], WithJsonSchema(schema_of(Plan))]
"""A plan, as YAML and the command line have it."""
DataJson = Annotated[dict[str, Any], WithJsonSchema(schema_of(Plan, "model", "data"))]


class NewSearch(BaseModel):
    """A search to begin."""

    plan: PlanJson
    """What to search. Its `data` is a path below the service's folders, or what an upload answered."""
    name: str | None = Field(
        default=None, description="A name for the search; from the data and the time when not given."
    )


class Uploaded(BaseModel):
    """A file that was uploaded."""

    data: str = Field(description="How a plan names it.")
    bytes: int = Field(description="Its size.")


class Data(BaseModel):
    """Data to understand."""

    data: str = Field(description="A path below the service's folders, or what an upload answered.")
    plan: DataJson = Field(
        default_factory=dict, description="Fields of a plan that say how to read it: task, label, columns …"
    )


class Asked(BaseModel):
    """What to estimate."""

    model: str = Field(description="A model that the service may read.")
    memory: str | None = Field(
        default=None, description="Tell the largest settings that train within this, such as 8GiB."
    )
    task: str | None = Field(default=None, description="What is learned; by default what is usual for the model.")
    space: str = Field(default="default", description="The methods of this space.")
    batch_size: int = Field(default=8, ge=1, le=65536, description="Examples in a training step.")
    length: int = Field(default=512, ge=1, le=1_000_000, description="Tokens of every example.")
    gradient_checkpointing: bool = Field(default=False, description="Recompute activations: less memory, more time.")
    dtype: str = Field(default=AUTO, description=f"{', '.join(DTYPES)}, nf4 or int8.")
    rows: int | None = Field(
        default=None, ge=1, le=10**9, description="Tell seconds of a whole training on so many rows."
    )


class Further(BaseModel):
    """What to add to a search."""

    trials: int | None = Field(default=None, ge=1, le=10**9, description="Go on until there are so many trials in all.")
    time: str | float | None = Field(
        default=None, description="Go on until the search took so long in all, such as 2h."
    )


class Seeds(BaseModel):
    """How to confirm a front."""

    seeds: int = Field(default=3, ge=1, le=1000, description="How many seeds to train each member with.")


class Place(BaseModel):
    """A place in the queue."""

    place: int = Field(ge=1, le=10**9, description="Among the searches that wait, from 1.")


class Shown(BaseModel):
    """One search in a list."""

    name: str
    state: str = Field(description="waiting, running, stopped, ended or failed; unfinished where no service knows it.")
    model: str
    data: str
    created: datetime
    place: int | None = Field(default=None, description="Among the searches that wait, from 1.")
    begun_by: str = Field(default="", description="The name of the token that began it.")
    stopping: bool = Field(default=False, description="Whether it was asked to stop.")
    reason: str = Field(default="", description="Why it failed.")
    trials: int = Field(default=0, description="How many there are, unfinished and failed ones included.")
    best: float | None = Field(default=None, description="The best score so far.")
    metric: str = Field(default="", description="What scores are.")
    higher_is_better: bool = True


class Searches(BaseModel):
    """A part of all searches."""

    total: int = Field(description="How many there are that the filters leave.")
    searches: list[Shown]


class Chosen(BaseModel):
    """The best trial within limits."""

    trial: dict[str, Any] = Field(description="As the report has it.")
    lines: list[tuple[str, str]] = Field(description="Its score and costs, as people read them.")


class Deleted(BaseModel):
    """What was taken away."""

    trials: int
    freed: int = Field(description="Bytes.")


class SignIn(BaseModel):
    """A token, to be exchanged for a cookie."""

    token: str = Field(max_length=200, description="As it was printed once.")


class Session(BaseModel):
    """A session of a browser."""

    name: str = Field(description="The name of the token.")
    role: str = Field(description="read or run.")
    word: str = Field(description="To be sent as X-CSRF-Token with whatever changes something.")


class Health(BaseModel):
    """Whether the service and its database answer."""

    status: str
    running: int = Field(description="Searches that run.")
    waiting: int = Field(description="Searches that wait.")
