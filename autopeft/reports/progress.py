"""A search as it goes: a live display in a terminal, one plain line per event that matters anywhere else.

It listens in the driver's process and must never be the reason for a search to end or to wait: it is redrawn at most
four times a second by a thread of its own, from a frozen value, and a stream that has gone away is ignored. The
terminal is given back on leaving the `with` block, also by Ctrl-C.
"""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live

from autopeft.events import Event
from autopeft.foreign import printable
from autopeft.reports.lines import lines
from autopeft.reports.screen import Screen
from autopeft.reports.standing import Standing


class Progress:
    """Hears the events of one search and shows them.

    >>> with Progress() as progress:
    ...     autopeft.search(model="…", data="train.csv", on_event=progress)
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._standing = Standing(clock())
        self._live: Live | None = None

    def __enter__(self) -> Self:
        console = Console(file=self._stream, force_jupyter=False, highlight=False, emoji=False, markup=False)
        if console.is_terminal and not console.is_dumb_terminal and (console.encoding or "").lower().startswith("utf"):
            screen = Screen(lambda: self._standing, self._clock)
            self._live = Live(screen, console=console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            with suppress(OSError, ValueError):
                live.stop()

    def __call__(self, event: Event) -> None:
        now = self._clock()
        self._standing = self._standing.after(event, now)
        said = tuple(printable(line, keep="") for line in lines(event, self._standing, now))
        if self._live is None:
            self._write(said)
        elif self._standing.over:
            self.__exit__(None, None, None)
            self._write(said)

    def _write(self, said: tuple[str, ...]) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with suppress(OSError, ValueError):
            for line in said:
                self._stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
            self._stream.flush()
