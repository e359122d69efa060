"""What requests and answers of the API hold, as its document describes it.

The fields of a plan are described by the plan's own docstrings, and checked by the plan itself, so that the answer to a
slip is the sentence of the command line.
"""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from autopeft.costs.told import About, Estimate
from autopeft.plan import AUTO, DTYPES, Plan
from autopeft.reports.overview import Overview
from autopeft.schemas import schema_as_given, schema_of
from autopeft.trial import Trial

Name = Annotated[str, Path(description="The search.")]
Number = Annotated[int, Path(description="The trial, as lists and reports number it.")]
PlanJson = Annotated[dict[str, Any], WithJsonSchema(schema_as_given(Plan))]
"""A plan, as YAML and the command line have it."""
DataJson = Annotated[dict[str, Any], WithJsonSchema(schema_as_given(Plan, "model", "data"))]
TrialJson = Annotated[dict[str, Any], WithJsonSchema(schema_of(Trial, "search", "answers", "alone", "until"))]
"""A trial, as the JSON report has it."""
AboutJson = Annotated[dict[str, Any], WithJsonSchema(schema_of(About))]
EstimateJson = Annotated[dict[str, Any], WithJsonSchema(schema_of(Estimate))]
MethodJson = Annotated[dict[str, Any], WithJsonSchema(schema_of(Overview))]


def files(*media: str) -> dict[int | str, dict[str, Any]]:
    """What a path answers that gives a file of one of these kinds."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"content": {each: {"schema": {}} if each == "application/json" else binary for each in media}}}


class _Shape(BaseModel):
    """Its fields are described by their docstrings, or by `Field` where that also bounds them."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class _Given(_Shape):
    """What is asked for: a field that there is not is a slip."""

    model_config = ConfigDict(extra="forbid")


class NewSearch(_Given):
    """A search to begin."""

    plan: PlanJson
    """What to search. Its `data` is a path below the service's folders, or what an upload answered."""
    name: str | None = Field(
        default=None, description="A name for the search; from the data and the time when not given."
    )


class Uploaded(_Shape):
    """A file that was uploaded."""

    data: str = Field(description="How a plan names it.")
    bytes: int = Field(description="Its size.")


class Data(_Given):
    """Data to understand."""

    data: str = Field(description="A path below the service's folders, or what an upload answered.")
    plan: DataJson = Field(
        default_factory=dict, description="Fields of a plan that say how to read it: task, label, columns …"
    )


class Understood(_Shape):
    """What a search would make of data."""

    columns: list[str] = Field(description="All that the file has.")
    examples: list[list[str]] = Field(description="Its first rows, a text for each column.")
    task: str = Field(description="What is learned.")
    roles: dict[str, list[str]] = Field(description="The columns that are read, by their role in the task.")
    rows: dict[str, int] = Field(description="Of each split.")
    labels: list[str] = Field(description="The classes, where there are any.")
    metrics: list[str] = Field(description="What scores may be, the usual one first.")
    words: int = Field(description="Of the longest of the first texts.")
    described: list[str] = Field(description="The same as lines to read, with notes.")


class Asked(_Given):
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


class Estimates(_Shape):
    """What every method costs; the same as `autopeft estimate --json`."""

    format: str
    """What this is."""
    version: int = Field(description="Grows when a field changes its meaning.")
    about: AboutJson
    """For what model, batch and length."""
    assumed: list[str] = Field(description="Fields of it that nobody asked for.")
    methods: list[EstimateJson]
    """One for each method."""


class TaskShown(_Shape):
    """A kind of task."""

    name: str
    """As plans have it."""
    summary: str
    """In a sentence."""
    roles: dict[str, list[str]] = Field(description="The columns that it reads, with their usual names.")
    metrics: list[str] = Field(description="What scores may be, the usual one first.")


class SpaceShown(_Shape):
    """A search space."""

    name: str
    """As plans have it."""
    summary: str
    """In a sentence."""
    methods: list[str]
    """Of which it draws."""
    hybrids: list[str]
    """Declared mixtures of methods of which it draws."""


class Versions(_Shape):
    """Of the package, and of this API."""

    autopeft: str
    """Of the package."""
    api: str
    """Of this API."""


class Problem(_Shape):
    """What went wrong (RFC 9457)."""

    type: str
    """about:blank; the status says what kind it is."""
    title: str
    """The status in words."""
    status: int
    """As in HTTP."""
    detail: str = Field(description="The sentence of the command line.")


class Further(_Given):
    """What to add to a search."""

    trials: int | None = Field(default=None, ge=1, le=10**9, description="Go on until there are so many trials in all.")
    time: str | float | None = Field(
        default=None, description="Go on until the search took so long in all, such as 2h."
    )


class Seeds(_Given):
    """How to confirm a front."""

    seeds: int = Field(default=3, ge=1, le=1000, description="How many seeds to train each member with.")


class Place(_Given):
    """A place in the queue."""

    place: int = Field(ge=1, le=10**9, description="Among the searches that wait, from 1.")


class Shown(_Shape):
    """One search in a list."""

    name: str
    """By which everything else asks for it."""
    state: str = Field(description="waiting, running, stopped, ended or failed; unfinished where no service knows it.")
    model: str
    """Its backbone."""
    data: str
    """What it learns from; empty where a command line began it."""
    created: datetime
    """When it was asked for."""
    place: int | None = Field(default=None, description="Among the searches that wait, from 1.")
    begun_by: str = Field(default="", description="The name of the token that began it.")
    stopping: bool = Field(default=False, description="Whether it was asked to stop.")
    reason: str = Field(default="", description="Why it failed.")
    left: float | None = Field(default=None, description="Seconds until it reaches a limit, by its pace.")
    trials: int = Field(default=0, description="How many there are, unfinished and failed ones included.")
    best: float | None = Field(default=None, description="The best score so far.")
    metric: str = Field(default="", description="What scores are.")
    higher_is_better: bool = True
    """Whether more of the metric is better."""
    shown: str = Field(default="-", description="The best score as people read it, with its metric.")


class Searches(_Shape):
    """A part of all searches."""

    total: int = Field(description="How many there are that the filters leave.")
    searches: list[Shown]
    """So many as were asked for."""


class Chosen(_Shape):
    """The best trial within limits."""

    trial: TrialJson
    """The best one."""
    lines: list[tuple[str, str]] = Field(description="Its score and costs, as people read them.")


class Question(_Given):
    """A text for a trained model."""

    text: str = Field(max_length=20_000, description="What it is to answer.")
    second: str = Field(default="", max_length=20_000, description="The other text of a pair.")


class Answer(_Shape):
    """What a trained model makes of a text."""

    answer: str
    """Its own."""
    of: str = Field(description="What needs no fine-tuning: the majority class, or the backbone as it is.")
    baseline: str = Field(description="Its answer; empty where it has none.")


class Deleted(_Shape):
    """What was taken away."""

    trials: int
    """How many."""
    freed: int = Field(description="Bytes.")


class SignIn(_Given):
    """A token, to be exchanged for a cookie."""

    token: str = Field(max_length=200, description="As it was printed once.")


class Session(_Shape):
    """A session of a browser."""

    name: str = Field(description="The name of the token.")
    role: str = Field(description="read or run.")
    word: str = Field(description="To be sent as X-CSRF-Token with whatever changes something.")


class Health(_Shape):
    """Whether the service and its database answer."""

    status: str
    """ok; where it is not, the answer is a problem."""
    running: int = Field(description="Searches that run.")
    waiting: int = Field(description="Searches that wait.")
