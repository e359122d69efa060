"""Work that imports torch, or reads what strangers uploaded, in processes beside the service's own.

So a file that takes all memory, or a model that takes forever, ends such a process and nothing else, and the service's
own memory stays flat. A process is started when it is first needed, and serves one request after another.
"""

import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.service.problems import Busy, TooLong

_context = multiprocessing.get_context("spawn")
_MOST_WAITING, _PATIENCE = 4, 30.0
"""Requests that wait for a process, and for how many seconds."""
_BUSY = "all that answers such questions is busy; ask again later."


class _Process:
    """One process; it is made anew after it was ended."""

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Connection | None = None

    def run(self, seconds: float, work: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        if self._process is None or not self._process.is_alive():
            self._pipe, theirs = _context.Pipe()
            self._process = _context.Process(target=_serve, args=(theirs,), daemon=False)
            self._process.start()
            theirs.close()
        assert self._pipe is not None
        try:
            self._pipe.send((work, arguments))
            if not self._pipe.poll(seconds):
                raise TooLong(f"this took more than {seconds:.0f} s and was ended; ask for less.")
            done, answer = self._pipe.recv()
        except TooLong:
            self.end()
            raise
        except (EOFError, OSError):
            self.end()
            raise AutopeftError(
                "the process that was asked died of this; it may have needed too much memory."
            ) from None
        if not done:
            raise answer
        return answer

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


class Few:
    """So many at a time, each of which takes a thread of the service; whoever is one too many is told to ask later."""

    def __init__(self, most: int) -> None:
        self._places = threading.BoundedSemaphore(most)

    def __enter__(self) -> None:
        if not self._places.acquire(blocking=False):
            raise Busy(_BUSY)

    def __exit__(self, *_: object) -> None:
        self._places.release()


class Apart:
    """So many processes; a few requests wait a while until one is free."""

    def __init__(self, processes: int = 2) -> None:
        self._all = [_Process() for _ in range(processes)]
        self._few = Few(processes + _MOST_WAITING)
        self._free: queue.LifoQueue[_Process] = queue.LifoQueue()
        for each in self._all:
            self._free.put(each)

    def run(self, seconds: float, work: Callable[..., Any], /, **arguments: Any) -> Any:
        """What `work` returns; it and its arguments are pickled. Raises AutopeftError: its own, and where it died."""
        with self._few:
            try:
                process = self._free.get(timeout=min(seconds, _PATIENCE))
            except queue.Empty:
                raise Busy(_BUSY) from None
            try:
                return process.run(seconds, work, arguments)
            finally:
                self._free.put(process)

    def close(self) -> None:
        for each in self._all:
            each.end()


def _serve(pipe: Connection) -> None:
    """The other side: it ends with the service, whose end of the pipe is closed then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            work, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (True, work(**arguments))
        except AutopeftError as error:
            answer = (False, AutopeftError(str(error)))
        except Exception as error:
            answer = (False, AutopeftError(f"{type(error).__name__}: {str(error)[:300]}"))
        pipe.send(answer)
