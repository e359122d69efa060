"""Which tasks there are: those of this folder, found by name or by what data looks like; and one's own."""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd

import autopeft.tasks
from autopeft.data.columns import Columns
from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief
from autopeft.tasks import own
from autopeft.tasks.base import CODE, Task
from autopeft.tasks.metrics import Metric

_SAID = ("name", "roles", "metrics", "constant")
"""What every task must say of itself."""
_MOST = 100
"""Characters of a task's name."""


@cache
def tasks() -> Mapping[str, type[Task]]:
    """Every task of the package by its name."""
    found: dict[str, type[Task]] = {}
    for module in pkgutil.iter_modules(autopeft.tasks.__path__):
        for value in vars(importlib.import_module(f"autopeft.tasks.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Task) and hasattr(value, "name"):
                found[value.name] = value
    return dict(sorted(found.items()))


def task_named(name: str) -> type[Task]:
    """The task of this name, or of a name that other tools have for it, or of a reference to a user's own. Raises
    AutopeftError.
    """
    if own.is_own(name):
        return own_task(own.known(name, "task"))
    found = tasks()
    for each in found.values():
        if name in (each.name, *each.aliases):
            return each
    raise unknown("task", name, found)


def own_task(thing: Any) -> type[Task]:
    """A user's class as a task. Raises AutopeftError that says what it lacks."""
    if isinstance(thing, Task):
        raise AutopeftError(
            f"give the class {type(thing).__name__} itself, which understands the data, not values of it."
        )
    if not (isinstance(thing, type) and issubclass(thing, Task)):
        raise AutopeftError(
            f"{own.told(thing)} is no task: a task is a class that inherits from autopeft.tasks.base.Task."
        )
    kind, shown = thing, own.shown(thing)
    if lacks := [name for name in _SAID if not hasattr(kind, name)]:
        raise AutopeftError(f"the task '{shown}' does not say its {', '.join(lacks)}.")
    if inspect.isabstract(kind):
        raise AutopeftError(f"the task '{shown}' lacks the methods {', '.join(sorted(kind.__abstractmethods__))}.")
    if "__dataclass_fields__" not in vars(kind):
        raise AutopeftError(f"the task '{shown}' must be plain values: write @dataclass(frozen=True) above its class.")
    if "from_dict" not in vars(kind) and (odd := kind.unreadable()):
        raise AutopeftError(
            f"the task '{shown}' has fields that cannot be read back from a file: {', '.join(odd)}; they may be int, "
            "float, str, or tuples of float or str, unless it has a from_dict of its own."
        )
    if not isinstance(kind.name, str) or not 0 < len(kind.name) <= _MOST:
        raise AutopeftError(f"the name of the task '{shown}' must be a short text, not {brief(kind.name)}.")
    if any(kind.name in (each.name, *each.aliases) for each in tasks().values()):
        raise AutopeftError(f"the task '{shown}' cannot be called '{kind.name}', as another task is; rename it.")
    if not kind.metrics or not all(isinstance(each, Metric) for each in kind.metrics):
        raise AutopeftError(f"the metrics of the task '{shown}' must be some of autopeft.tasks.metrics.Metric.")
    return kind


def guess_task(frame: pd.DataFrame, given: Columns) -> type[Task]:
    """The task that this training data is meant for."""
    return next((task for task in tasks().values() if task.fits(frame, given)), task_named("text-classification"))


def read_task(plain: Any) -> Task:
    """The task of values that `Task.to_dict` gave, or a stranger wrote. Raises AutopeftError, and NotNamed for a task
    of somebody's own that this program does not know.
    """
    if not isinstance(plain, Mapping) or not isinstance(name := plain.get("name"), str):
        raise AutopeftError(f"a task must have a name and values, not be {brief(plain)}.")
    kind = _of_user(name, plain[CODE]) if CODE in plain else task_named(name)
    try:
        return kind.from_dict({key: value for key, value in plain.items() if key != CODE})
    except (ValueError, KeyError) as error:
        raise AutopeftError(f"these are no values of a task '{kind.name}': {error}") from error


def _of_user(name: str, code: Any) -> type[Task]:
    for each in own.everything():
        if isinstance(each, type) and issubclass(each, Task) and getattr(each, "name", None) == name:
            return own_task(each)
    where = f" ({brief(code, 100)[1:-1]})" if isinstance(code, str) else ""
    raise own.NotNamed(
        f"the task {brief(name, 100)} is code of somebody's own{where}, and not run because a folder names it; if it "
        "is yours, say so first: autopeft.register('my_task.py:MyTask') with its file and name, or "
        "autopeft.register(MyTask)."
    )
