"""What a program says of code of its user's own, so that what names it is read: a database, or a trained method."""

from inspect import isfunction
from pathlib import Path
from typing import Any, TypeVar

from autopeft.methods.saved import register as register_methods
from autopeft.tasks import own
from autopeft.tasks.base import Task
from autopeft.tasks.named import own_task
from autopeft.tasks.own_metric import own_metric

_Registered = TypeVar("_Registered")


def register(what: _Registered) -> _Registered:
    """Trusts code of your own: a method's class, or all that the cards of a folder name; a task's class, a metric's
    function, or either by its file and name. `autopeft.load` builds only what it knows.

    >>> @autopeft.register
    ... @dataclass(frozen=True)
    ... class MyMethod(Method): ...
    >>> autopeft.register("my-cards/")
    >>> autopeft.register("my_task.py:MyTask")

    Raises AutopeftError for what is none of these.
    """
    if isinstance(what, str) and own.is_own(what) and not Path(what).is_dir():
        _checked(own.bring(own.rooted(what), "task"))
    elif isinstance(what, type) and issubclass(what, Task):
        own.remember(own_task(what))
    elif isfunction(what) and own.is_of_user(what):
        own_metric(what)
        own.remember(what)
    else:
        register_methods(what)  # type: ignore[type-var]
    return what


def _checked(thing: Any) -> None:
    """Raises AutopeftError for what is neither a task nor a metric."""
    if isinstance(thing, type):
        own_task(thing)
    else:
        own_metric(thing)
