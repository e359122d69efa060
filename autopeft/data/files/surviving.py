"""Libraries that end the whole process on a damaged file are tried in a process of their own first."""

import faulthandler
import os
import sys
import warnings
from collections.abc import Callable


def survives(look: Callable[[], object]) -> bool:
    """Whether the process lives on after `look`, which may raise. It runs twice: here only its fork is risked.

    A fork takes milliseconds where a new process imports for half a second. Only Linux forks safely beside threads that
    hold no lock of what is looked at; elsewhere the answer is yes.
    """
    if sys.platform != "linux":
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _look_and_end(look)
    return not os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _look_and_end(look: Callable[[], object]) -> None:
    """What the child does: silently, without a core dump, and without what its parent wants done at its end."""
    try:
        import resource  # which only Unix has

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        look()
    finally:
        os._exit(0)
