"""Slips in a user's own code that show while it is called: told by its name, the function and the line in his file.

The error itself, with all of its traceback, is the cause (`__cause__`) of the answer.
"""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.tasks.own import frames, is_of_user, shown


def is_signal(error: BaseException) -> bool:
    """Whether it comes from outside and is to end the program: Ctrl-C, or the exit that Ray makes of a SIGTERM."""
    if isinstance(error, SystemExit):
        ran = [code for code, _ in frames(error)]
        return bool(ran) and "ray" in Path(ran[-1].co_filename).parts
    return isinstance(error, KeyboardInterrupt)


def slip_of(error: BaseException, kind: type) -> AutopeftError | None:
    """The answer to an error that came about in the file of a user's own task, also in its head or a metric; None for
    what came about elsewhere, what is an answer already, and what comes from outside.
    """
    if isinstance(error, AutopeftError | GeneratorExit) or is_signal(error):
        return None
    files = _files(kind)
    if not (own := [each for each in frames(error) if each[0].co_filename in files]):
        return None
    code, line = own[-1]
    said = [each.strip() for each in str(error).splitlines() if each.strip()]
    told = f": {brief(said[-1], 200)[1:-1]}" if said else ""
    where = f"line {line} of {Path(code.co_filename).name}"
    return AutopeftError(
        f"the task '{shown(kind)}' fails in {code.co_qualname}, {where}: {type(error).__name__}{told}."
    )


@contextmanager
def slips_told(kind: type | None) -> Iterator[None]:
    """Answers slips of a user's own task within the block. Raises AutopeftError."""
    try:
        yield
    except BaseException as error:
        if kind is None or (slip := slip_of(error, kind)) is None:
            raise
        raise slip from error


def _files(kind: type) -> set[str]:
    """Where a class of a user's own, and those of his that it inherits from, say what they do."""
    found = set()
    for each in kind.__mro__:
        if is_of_user(each) and each.__module__ not in sys.stdlib_module_names:
            for value in vars(each).values():
                function = inspect.unwrap(getattr(value, "__func__", getattr(value, "fget", value)))
                if inspect.isfunction(function) and not function.__code__.co_filename.startswith("<string>"):
                    found.add(function.__code__.co_filename)
    return found
