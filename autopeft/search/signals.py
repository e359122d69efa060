"""SIGTERM stays whose it was: Ray takes it for itself, once when it is imported and once, deeper, when it starts."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def handler_kept() -> Iterator[None]:
    """Whoever asked to hear of SIGTERM before the block hears of it after the block, too, and of one that came within,
    of which Ray makes an exit.
    """
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        if callable(kept) and error.code == signal.SIGTERM:
            kept(signal.SIGTERM, None)
        raise
    finally:
        if callable(kept) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, kept)
