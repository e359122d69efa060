"""What the user asks for, frozen: the same from YAML, from the command line and from Python.

Every field's docstring is its only description; command-line help is made from it (`field_docs`).
"""

import ast
import inspect
import math
import os
import textwrap
import warnings
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import InitVar, asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, Self

from autopeft.declared import read_declared
from autopeft.errors import AutopeftError, unknown
from autopeft.files import found_in
from autopeft.foreign import brief, told
from autopeft.objectives import ACCURACY, COSTS, SCORE, UNITS, Limits
from autopeft.sizes import Share, parse_wait

SAMPLERS = found_in(Path(__file__).parent / "searching" / "samplers")
"""Every sampler by name: the files of that folder, none of which is imported here."""
AUTO = "auto"
DTYPES = (AUTO, "float32", "bfloat16", "float16")
"""In what a backbone's weights may be held."""
QUANTISED = ("nf4", "int8")
"""In what its matrices may be packed."""
LOSS_ON = COMPLETION, ALL = ("completion", "all")
"""What of an example a language model may learn."""
KEPT = ("front", "all")
"""Whose trained weights a search may keep."""
_MOST = 1_000_000_000
"""Of whatever is counted; more is a slip, and some libraries cannot hold it."""


@dataclass(frozen=True)
class Budget(Limits):
    """Limits that no candidate may break. None means no limit."""

    latency: float | None = None
    """Longest time for one row, or one new token where texts are written, such as 20ms, as measured; for selecting."""
    score: float | None = None
    """Worst acceptable score on validation data, such as 0.9 or 90%; used when selecting."""
    accuracy_at_least: InitVar[float | None] = None
    """What `score` was called."""

    def __post_init__(self, accuracy_at_least: float | None) -> None:
        if accuracy_at_least is not None:
            warnings.warn("a budget's 'accuracy_at_least' is called 'score' now.", FutureWarning, stacklevel=3)
            object.__setattr__(self, SCORE, accuracy_at_least if self.score is None else self.score)
        for name, unit in UNITS.items():
            value = getattr(self, name)
            if value is not None:
                parsed = unit.parse(value)
                if isinstance(parsed, Share) and not 0 < parsed.fraction <= _MOST:
                    beyond = "more than 0%" if parsed.fraction <= 0 else f"at most {_MOST:,}%"
                    raise AutopeftError(f"budget {name} must be {beyond}, not {told(value)}.")
                if isinstance(parsed, int) and parsed < 1:
                    raise AutopeftError(f"budget {name} must be at least 1, not {told(value)}.")
                if name == "latency" and parsed == 0:
                    raise AutopeftError("budget latency must be more than 0 seconds.")
                object.__setattr__(self, name, parsed)

    def after_training(self) -> dict[str, float]:
        """Limits on what is known after training only, by name."""
        named = {name: getattr(self, name) for name in ("latency", SCORE)}
        return {name: limit for name, limit in named.items() if limit is not None}

    def or_else(self, other: "Budget") -> "Budget":
        """The same budget with the limits of another one on what is known after training only, where it has none."""
        both: dict[str, Any] = {**other.after_training(), **self.after_training()}
        return replace(self, **both)

    def resolved(self, backbone_parameters: int) -> "Budget":
        """The same budget with shares turned into numbers."""
        if isinstance(self.trainable, Share):
            return replace(self, trainable=self.trainable.of(backbone_parameters))
        return self

    def limits(self) -> dict[str, float]:
        """Limits on costs that are known before training, by objective name. Raises ValueError for a share that is not
        resolved.
        """
        if isinstance(self.trainable, Share):
            raise ValueError(f"the share {self.trainable} is not resolved")
        named = {name: getattr(self, name) for name in COSTS}
        return {name: limit for name, limit in named.items() if limit is not None}


@dataclass(frozen=True)
class Plan:
    """What to search: model, data, space, objectives, budget and limits."""

    model: str
    """The pretrained transformer: a local folder or a hub name, also with a revision (org/name@v1)."""
    data: str
    """A CSV, JSON lines or Parquet file, a folder of train/validation/test files, a `datasets` folder or a hub name."""
    text: tuple[str, ...] = ()
    """Text columns, one or two (a pair); guessed when not given."""
    label: str | None = None
    """The column to predict; guessed when not given."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Columns by their role in the task, such as tokens=words,tags=ner; those not given are guessed."""
    separator: str | None = None
    """What stands between several labels in one cell, such as ','; ';' when not given."""
    task: str = "auto"
    """The task type; guessed from the data when 'auto'; also your own, such as my_task.py:MyTask."""
    metric: str = "auto"
    """What scores are: a metric of the task; its usual one when 'auto'; also your own, such as my_metric.py:score."""
    space: str = "auto"
    """A named search space, or a folder of your own cards; the usual one of the task when 'auto'."""
    methods: tuple[str, ...] = ()
    """Search only these methods and hybrids of the space; all of them when not given."""
    objectives: tuple[str, ...] = (SCORE, "memory", "trainable")
    """What to optimise; the front is made of these. The score may be called by its metric."""
    budget: Budget = field(default_factory=Budget)
    """Limits on costs."""
    trials: int | None = None
    """How many candidates to train; 32 when neither trials nor time is given."""
    time: float | None = None
    """Wall-clock limit of the search, such as 30m or 2h; what trains still is stopped then, at its last rung."""
    max_length: int | None = None
    """Longest text in tokens; what is longer is cut off. 128 when not given, and 1,024 for text-generation."""
    packing: bool = False
    """Train on several examples in each row, for text-generation: less padding. Rows count in batch sizes then."""
    loss_on: str = COMPLETION
    """What language models learn: completions and the assistant's turns where there are any, or all that they read."""
    sampler: str = "known_costs"
    """How candidates are proposed: known_costs is our own, the others are Optuna's."""
    seed: int = 0
    """Fixes the validation split, what a search begins with, and every trial's training, but not how long they take."""
    confirm: int = 0
    """Seeds to train the front again with after the search, at full length; nothing else uses the test split."""
    warm_start: bool = False
    """Begin with what was best in past searches of this database on the same backbone, whatever their data."""
    keep: str = "front"
    """Which trained weights to keep: front, of trials that no other one beats in the score and in all costs, or all."""
    dtype: str = AUTO
    """What weights are held in; 'auto': bfloat16 on GPUs that have it, else float32; nf4 and int8 are quantised."""
    trust_remote_code: bool = False
    """Run program code that comes with the model, where transformers needs it; it may do anything on your machine."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", str(self.dtype).removeprefix("torch."))
        for name in (
            "model",
            "data",
            "task",
            "metric",
            "space",
            "sampler",
            "loss_on",
            "keep",
            "dtype",
            *(name for name in ("label", "separator") if getattr(self, name) is not None),
        ):
            object.__setattr__(self, name, _text(name, getattr(self, name)))
        for name in ("model", "data"):
            if not getattr(self, name).strip():
                raise AutopeftError(f"a plan needs '{name}'.")
        for name in ("text", "methods", "objectives"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        object.__setattr__(self, "columns", _columns(self.columns))
        for name in ("trials", "max_length", "seed", "confirm"):
            may_lack = name in ("trials", "max_length") and getattr(self, name) is None
            if not (_is_number(getattr(self, name), whole=True) or may_lack):
                raise AutopeftError(f"{name} must be a whole number, not '{told(getattr(self, name))}'.")
            if (getattr(self, name) or 0) > _MOST and name != "seed":
                raise AutopeftError(f"{name} must be at most {_MOST:,}, not {told(getattr(self, name))}.")
        if self.trials is None and self.time is None:
            object.__setattr__(self, "trials", 32)
        if self.trials is not None and self.trials < 1:
            raise AutopeftError(f"trials must be at least 1, not {self.trials}.")
        if self.time is not None:
            object.__setattr__(self, "time", _seconds("time", self.time))
        if self.max_length is not None and self.max_length < 8:
            raise AutopeftError(f"max_length must be at least 8 tokens, not {self.max_length}.")
        for name in ("warm_start", "packing", "trust_remote_code"):
            if not isinstance(getattr(self, name), bool):
                raise AutopeftError(f"{name} must be true or false, not '{told(getattr(self, name))}'.")
        if self.confirm < 0:
            raise AutopeftError(f"confirm must be 0 or more seeds, not {self.confirm}.")
        if not 0 <= self.seed < 2**32:
            raise AutopeftError(f"seed must lie between 0 and {2**32 - 1}, not {told(self.seed)}.")
        if len(self.text) > 2:
            raise AutopeftError(f"at most two text columns can be used, not {len(self.text)}: {', '.join(self.text)}.")
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        if self.keep not in KEPT:
            raise AutopeftError(f"keep must be {' or '.join(KEPT)}, not '{told(self.keep)}'.")
        if self.loss_on not in LOSS_ON:
            raise AutopeftError(f"loss_on must be {' or '.join(LOSS_ON)}, not '{told(self.loss_on)}'.")
        if self.dtype not in (*DTYPES, *QUANTISED):
            raise unknown("dtype", self.dtype, (*DTYPES, *QUANTISED))
        self._name_objectives()
        if len(set(self.objectives)) != len(self.objectives) or not self.objectives:
            raise AutopeftError(f"objectives must be distinct and at least one, not '{','.join(self.objectives)}'.")
        if not isinstance(self.budget, Budget):
            raise AutopeftError(f"budget must hold limits such as 'memory: 8GiB', not '{told(self.budget)}'.")

    @property
    def given(self) -> Mapping[str, tuple[str, ...]]:
        """All columns that are given, by role."""
        short = {"text": self.text, "label": () if self.label is None else (self.label,)}
        return {**self.columns, **{role: names for role, names in short.items() if names}}

    def _name_objectives(self) -> None:
        """Calls the score `score` where it is called by its metric; who calls it accuracy wants that metric."""
        if self.metric == "auto" and ACCURACY.name in self.objectives:
            object.__setattr__(self, "metric", ACCURACY.name)
        metric = ACCURACY.name if self.metric == "auto" else self.metric.rpartition(":")[2]
        for name in self.objectives:
            if name not in (SCORE, metric, *COSTS):
                raise unknown("objective", name, (SCORE, metric, *COSTS))
        object.__setattr__(self, "objectives", tuple(SCORE if name == metric else name for name in self.objectives))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON; `from_dict` reads them back."""
        plain = asdict(self)
        if self.budget.trainable is not None:
            plain["budget"]["trainable"] = str(self.budget.trainable)
        plain["columns"] = {role: list(names) for role, names in self.columns.items()}
        return plain | {"text": list(self.text), "methods": list(self.methods), "objectives": list(self.objectives)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """A plan from plain values; those that are None count as not given. Raises AutopeftError."""
        known = {f.name for f in fields(cls)}
        for name in plain:
            if name not in known:
                raise unknown("plan field", name, known)
        for name in ("model", "data"):
            if plain.get(name) is None:
                raise AutopeftError(f"a plan needs '{name}'.")
        values = {name: value for name, value in plain.items() if value is not None}
        if isinstance(budget := values.get("budget", {}), Mapping):
            for name in budget:
                if name not in (*UNITS, "accuracy_at_least"):
                    raise unknown("budget", name, UNITS)
            values["budget"] = Budget(**budget)
        return cls(**values)

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Mapping[str, Any] = MappingProxyType({})) -> Self:
        """Reads a plan from a YAML file; `overrides` come before its fields, limits of the budget one by one.

        Raises AutopeftError.
        """
        try:
            plain = read_declared(Path(path))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise AutopeftError(f"cannot read the plan '{path}': {why}.") from error
        if not isinstance(plain, Mapping):
            raise AutopeftError(f"'{path}' must hold fields such as 'model:' and 'data:'.")
        both = {**_as_typed(plain, ("time",)), **overrides}
        budgets = [each["budget"] for each in (plain, overrides) if each.get("budget") is not None]
        if all(isinstance(budget, Mapping) for budget in budgets):
            limits = {name: limit for budget in budgets for name, limit in budget.items()}
            both["budget"] = _as_typed(limits, UNITS)
        return cls.from_dict(both)


@dataclass(frozen=True)
class Resources:
    """Where a search runs; not part of the plan, so that a search may be resumed elsewhere."""

    workers: int | None = None
    """Trials trained at a time; 0 trains in this process without Ray. By default all that GPUs hold, or cores."""
    gpus_per_trial: float | None = None
    """GPUs (or a fraction of one) for each trial; by default the part that its predicted memory asks for."""
    address: str | None = None
    """Address of a running Ray cluster, or 'auto'; a local one is started when not given."""
    timeout: float | None = None
    """Longest wait for a trial's next rung, such as 30m; then its worker is ended. Impossible with --workers 0."""
    storage: str = field(default="sqlite:///autopeft.db", repr=False)
    """SQLAlchemy URL of the database that remembers searches."""
    folder: str = "autopeft-runs"
    """Folder for trained weights and prepared data; must be shared by all machines of a cluster."""

    def __post_init__(self) -> None:
        if self.workers is not None and not (_is_number(self.workers, whole=True) and self.workers >= 0):
            raise AutopeftError(f"workers must be 0 or more, and whole, not {told(self.workers)}.")
        if self.gpus_per_trial is not None and not (_is_number(self.gpus_per_trial) and self.gpus_per_trial >= 0):
            raise AutopeftError(f"gpus_per_trial must be 0 or more, not {told(self.gpus_per_trial)}.")
        for name in ("workers", "gpus_per_trial"):
            if (getattr(self, name) or 0) > _MOST:
                raise AutopeftError(f"{name} must be at most {_MOST:,}, not {told(getattr(self, name))}.")
        if self.timeout is not None:
            object.__setattr__(self, "timeout", _seconds("timeout", self.timeout))
        for name in ("address", "storage", "folder"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _text(name, getattr(self, name)))


def _is_number(value: object, whole: bool = False) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _text(name: str, value: object) -> str:
    """A field that is a text, a path or a number of a column. Raises AutopeftError."""
    if isinstance(value, str | PurePath) or (_is_number(value) and abs(value) <= _MOST):  # type: ignore[arg-type]
        text = str(value)
        with suppress(UnicodeEncodeError):
            if b"\0" not in os.fsencode(text):
                return text
    raise AutopeftError(f"{name} must be a text, not {brief(value, 100)}.")


def _as_typed(plain: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    """Values of a file, of which some numbers are the texts that they were: a unit may be missing there."""
    return {
        name: str(value) if name in names and _is_number(value) and abs(value) < _MOST**9 else value
        for name, value in plain.items()
    }


def _seconds(name: str, value: Any) -> float:
    seconds = parse_wait(name, value)
    if not 0 < seconds <= _MOST:
        raise AutopeftError(f"{name} must be more than 0 seconds{', and less than 30 years' if seconds else ''}.")
    return seconds


def _names(field_name: str, value: object) -> tuple[str, ...]:
    """Several names, given one by one or as one text with commas."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise AutopeftError(f"{field_name} must be names such as 'a,b', not '{told(value)}'.")
    return tuple(_text(field_name, name) for name in value)


def _columns(value: object) -> Mapping[str, tuple[str, ...]]:
    """Columns by role; also of one text such as `tokens=words,tags=ner`, in which a name without a role adds to the
    role before it.
    """
    if isinstance(value, Mapping):
        return {_text("columns", role): _names("columns", names) for role, names in value.items()}
    found: dict[str, list[str]] = {}
    role = ""
    for each in _names("columns", value):
        role, _, name = each.partition("=") if "=" in each else (role, "=", each)
        if not role or not name:
            raise AutopeftError(f"columns must be roles with their columns such as 'tokens=words', not '{told(each)}'.")
        found.setdefault(role, []).append(name)
    return {role: tuple(names) for role, names in found.items()}


@cache
def field_docs(kind: type) -> Mapping[str, str]:
    """Each field's docstring (the string literal below it), by field name."""
    docs = {name: text for base in kind.__bases__ if is_dataclass(base) for name, text in field_docs(base).items()}
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    for line, following in zip(body.body, body.body[1:], strict=False):
        match line, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=text)):
                docs[name] = str(text)
    return {each.name: docs[each.name] for each in fields(kind) if each.name in docs}
