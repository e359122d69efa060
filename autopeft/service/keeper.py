"""Keeps the queue going: starts a process for each search whose turn it is, and notices when one has ended.

Processes are sessions of their own and outlive a service that is killed; the next one counts them by their leases. When
a service ends in good order, what runs is interrupted and waits for the next.
"""

import json
import logging
import socket
import subprocess
import sys
import threading

from autopeft.errors import AutopeftError
from autopeft.service.settings import Settings
from autopeft.storage.holding import Held, Holding
from autopeft.storage.opened import Opened
from autopeft.storage.queue import Queue

_PAUSE = 0.5
"""Seconds between looks at the queue."""
_LATER = 5.0
"""The same after one that failed."""
_PATIENCE = 60.0
"""Seconds for a search to end that is interrupted."""
_log = logging.getLogger(__name__)


class Keeper(threading.Thread):
    """The thread that keeps the queue of one service."""

    def __init__(self, settings: Settings, opened: Opened) -> None:
        super().__init__(name="keeper", daemon=True)
        self._settings = settings
        self._holding = Holding(opened)
        self._queue = Queue(opened)
        self._over = threading.Event()
        self._running: dict[subprocess.Popen[bytes], Held] = {}

    def run(self) -> None:
        pause = _PAUSE
        while not self._over.wait(pause):
            pause = _PAUSE
            try:
                self._step()
            except (AutopeftError, OSError) as error:  # The database, or a full disk: later it may do.
                _log.warning("the queue has to wait: %s", error)
                pause = _LATER
            except Exception:
                _log.exception("a defect of autopeft's; the queue goes on")
                pause = _LATER

    def close(self) -> None:
        """Interrupts what runs, and waits until all has ended."""
        self._over.set()
        self.join()
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._reap()

    def _step(self) -> None:
        self._reap()
        while (held := self._holding.take(socket.gethostname(), self._settings.at_once)) is not None:
            try:
                self._start(held)
            except BaseException:
                self._holding.give_back(held)
                raise

    def _reap(self) -> None:
        for process, held in [*self._running.items()]:
            if process.poll() is not None:
                self._holding.died(held)
                del self._running[process]
                entry = self._queue.entry(held.name)
                state, reason = ("deleted", "") if entry is None else (entry.state, entry.reason)
                _log.info("search %s: process %d ended, it is %s %s", held.name, process.pid, state, reason)

    def _start(self, held: Held) -> None:
        settings = self._settings
        settings.logs.mkdir(parents=True, exist_ok=True)
        with settings.log_of(held.name).open("ab") as log:
            command = [sys.executable, "-m", "autopeft.service.process"]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._running[process] = held
        assert process.stdin is not None
        trusted = {"code": [*settings.trusted_code.values()], "remote": settings.trust_remote_code}
        # Not as arguments or in the environment, where others might read the database's password.
        told = {"id": held.id, "owner": held.owner, "resources": settings.resources, "trusted": trusted}
        with process.stdin as stream:
            stream.write(json.dumps(told).encode())
        _log.info("search %s: process %d began", held.name, process.pid)
