"""Who hears of a search that was begun in Python: whoever asked to, else the people who sit before it."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from autopeft.events import Event
from autopeft.reports.progress import Progress

Listener = Callable[[Event], None]


def listening(on_event: Listener | None, quiet: bool) -> AbstractContextManager[Listener | None]:
    """Who hears events within the block: nobody where it is to be quiet, and where no person can see it.

    In a terminal that is the live display of the command line; in a notebook one line per event that matters, which
    stays in it.
    """
    if on_event is not None or quiet:
        return nullcontext(on_event)
    if in_notebook():
        return Progress(sys.stdout)
    return Progress() if sys.stderr is not None and sys.stderr.isatty() else nullcontext(None)


def in_notebook() -> bool:
    """Whether a kernel of Jupyter's runs this process. A shell of IPython in a terminal has none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
