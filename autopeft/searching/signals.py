"""Signals stay whose they were, and none is lost: Ray takes SIGTERM when it is imported, and once more, deeper, when it
starts; and what a signal raises within a callback of a library may come to nobody.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


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


@contextmanager
def insisted() -> Iterator[Callable[[], None]]:
    """Gives what raises again whatever a signal raised within the block and is still not heard of."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    unheard: list[BaseException] = []
    kept = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}

    def hear(number: int, frame: FrameType | None) -> None:
        handler = kept[signal.Signals(number)]
        assert callable(handler), "only those are replaced"
        try:
            handler(number, frame)
        except BaseException as raised:
            unheard.append(raised)
            raise

    def insist() -> None:
        if unheard:
            raise unheard.pop()

    for each, handler in kept.items():
        if callable(handler):
            signal.signal(each, hear)
    try:
        yield insist
    finally:
        for each, handler in kept.items():
            if callable(handler):
                signal.signal(each, handler)
