"""Quiet for one thread: what a library says in vain is not heard, and other threads are heard as ever.

The standard error stream and the filters of warnings belong to the whole process, and methods are attached in a thread
beside the one that trains and reports. So the stream is replaced by one that drops what quiet threads write, and the
filter by one that looks at who asks; neither is ever exchanged under another thread's feet.
"""

import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_lock = threading.Lock()
_quiet = threading.local()
_threads = 0


@contextmanager
def quiet(in_vain: tuple[str, ...]) -> Iterator[None]:
    """Drops what this thread writes to the standard error stream, and warnings that match `in_vain`."""
    before = _said_in_vain()
    _enter()
    _quiet.in_vain = (*before, *in_vain)
    try:
        yield
    finally:
        _quiet.in_vain = before
        _leave()


def _said_in_vain() -> tuple[str, ...]:
    """What this thread drops; empty where it is not quiet."""
    return getattr(_quiet, "in_vain", ())


class _Ears:
    """In the place of a filter's pattern: asked by the thread that warns."""

    def match(self, text: str) -> bool:
        return any(re.match(message, text, re.IGNORECASE) for message in _said_in_vain())


class _Stream:
    """The standard error stream without what quiet threads write."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return len(text) if _said_in_vain() else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


_FILTER: Any = ("ignore", _Ears(), Warning, None, 0)


def _enter() -> None:
    global _threads
    with _lock:
        _threads += 1
        filters: Any = warnings.filters
        if _FILTER not in filters[:1]:
            filters.insert(0, _FILTER)
        if not isinstance(sys.stderr, _Stream) and sys.stderr is not None:
            sys.stderr = _Stream(sys.stderr)


def _leave() -> None:
    global _threads
    with _lock:
        _threads -= 1
        if _threads:
            return
        filters: Any = warnings.filters
        if _FILTER in filters:
            filters.remove(_FILTER)
        if isinstance(sys.stderr, _Stream):
            sys.stderr = sys.stderr.stream
