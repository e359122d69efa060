"""Signals stay whose they were: Ray takes SIGTERM when it is imported, and once more, deeper, when it starts."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Whoever asked to hear of signals before the block hears of them after the block, too, and of a SIGTERM that came
    within, of which Ray makes an exit.
    """
    kept = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except SystemExit as error:
        handler = kept[signal.SIGTERM]
        if callable(handler) and error.code == signal.SIGTERM:
            handler(signal.SIGTERM, None)
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            for each, handler in kept.items():
                if handler is not None:
                    signal.signal(each, handler)
