"""Which tasks there are: those of the files in this folder. Found by name, or by what data looks like."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd

import autopeft.tasks
from autopeft.data.columns import Columns
from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief
from autopeft.tasks.base import Task


@cache
def tasks() -> Mapping[str, type[Task]]:
    """Every task by its name."""
    found: dict[str, type[Task]] = {}
    for module in pkgutil.iter_modules(autopeft.tasks.__path__):
        for value in vars(importlib.import_module(f"autopeft.tasks.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Task) and hasattr(value, "name"):
                found[value.name] = value
    return dict(sorted(found.items()))


def task_named(name: str) -> type[Task]:
    """The task of this name, or of a name that other tools have for it. Raises AutopeftError."""
    found = tasks()
    for each in found.values():
        if name in (each.name, *each.aliases):
            return each
    raise unknown("task", name, found)


def guess_task(frame: pd.DataFrame, given: Columns) -> type[Task]:
    """The task that this training data is meant for."""
    return next((task for task in tasks().values() if task.fits(frame, given)), task_named("text-classification"))


def read_task(plain: Any) -> Task:
    """The task of values that `Task.to_dict` gave, or a stranger wrote. Raises AutopeftError."""
    if not isinstance(plain, Mapping) or not isinstance(name := plain.get("name"), str):
        raise AutopeftError(f"a task must have a name and values, not be {brief(plain)}.")
    kind = task_named(name)
    try:
        return kind.from_dict(plain)
    except (ValueError, KeyError) as error:
        raise AutopeftError(f"these are no values of a task '{kind.name}': {error}") from error
