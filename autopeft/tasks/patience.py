"""Waiting for a user's function, but not for ever: what hangs is told, and the search goes on without it.

The function runs in a thread of its own, because nothing else can be left waiting. One that loops is ended there; one
that waits for something (a network, a lock) is left to it, and ends with the process.
"""

import ctypes
from collections.abc import Callable
from threading import Thread
from typing import Any

from autopeft.errors import AutopeftError

LONGEST = 60.0
"""Seconds that one call may take."""


class Hangs(AutopeftError):
    """A call is not over after so long."""


def in_time(call: Callable[[], Any], who: str) -> Any:
    """What the call returns, or raises. Raises Hangs after `LONGEST`, which says of whom."""
    found: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run, name=who, daemon=True)
    thread.start()
    thread.join(LONGEST)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
        raise Hangs(f"{who} hangs: it is not done after {LONGEST:.0f} seconds.")
    if failed:
        raise failed[0]
    return found[0]
