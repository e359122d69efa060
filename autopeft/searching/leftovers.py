"""What killed drivers leave behind: processes of their Ray, and folders of temporary files. It is cleared at once by a
process that does nothing but wait for their death, or, where that was killed, too, by the next one.

All that a driver and its Ray write beside the user's folders lies in one temporary folder. The driver holds a lock on
it that the operating system takes back when it dies, however it dies, and Ray's processes carry the folder's path in
their environment. So nothing is cleared that belongs to a living driver, or that is not ours. Where there are no such
locks (Windows), nothing is cleared; where there is no /proc, folders are and processes are not.

This file runs by itself, too, as the process that waits, and imports nothing of the package.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_PREFIX = "autopeft-"
_LOCK = "driver.lock"
_MARK = "AUTOPEFT_DRIVER_FOLDER"
_PATIENCE = 30.0
"""Seconds for processes to go that were killed, at most."""
_QUIET = 2.0
"""Seconds without any of them: one that is just beginning shows no environment yet, on a busy machine for a while."""


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A temporary folder of this driver."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # It is locked before it has its name: whoever finds it finds it locked.
    unnamed = folder / f"{_LOCK}.new"
    with unnamed.open("w") as lock:
        _lock(lock.fileno())
        unnamed.rename(folder / _LOCK)
        # In a session of its own, so that no signal of a terminal reaches it.
        command = [sys.executable, "-I", "-S", __file__, str(folder)]
        waiting = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            # Not by Popen's own context, which waits only a moment after Ctrl-C and leaves the process to nobody.
            waiting.communicate()


@contextlib.contextmanager
def marked(folder: Path) -> Iterator[None]:
    """Whatever starts here meanwhile, and all that this starts in turn, belongs to the driver of the folder."""
    outer = os.environ.get(_MARK)
    os.environ[_MARK] = str(folder)
    try:
        yield
    finally:
        del os.environ[_MARK]
        if outer is not None:
            os.environ[_MARK] = outer


def clear() -> None:
    """Ends the processes of dead drivers of this user, and removes their folders."""
    if sys.platform == "win32":
        return
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):
            if lock.lstat().st_uid != os.getuid():
                continue
            with lock.open("r+") as file:
                if not _lock(file.fileno()):
                    continue
                _clear(lock.parent)


def _clear(folder: Path) -> None:
    """Ends what the dead driver of a folder started, also what that starts meanwhile, and removes the folder."""
    # A driver that ended by itself has removed its folder, and waits.
    quiet = _QUIET if folder.exists() else 0.1
    began = seen = now = time.monotonic()
    while now < min(seen + quiet, began + _PATIENCE):
        # The one that waits is a child of a driver that ends by itself, which still holds files of its session.
        for process in set(processes_of(folder)) - {os.getppid()}:
            seen = now
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
        now = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: Path) -> list[int]:
    """The processes that the driver of a folder started here."""
    mark = f"{_MARK}={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # Those of other users cannot be read, and some end while one looks.
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0") or _writes_into(folder, process):
                found.append(int(process.name))
    return found


def _writes_into(folder: Path, process: Path) -> bool:
    """Whether a process has a file of the folder open for writing, as Ray's agents have, which write their titles over
    their environment; the one that waits has none, and who reads a log is not ours.
    """
    return any(
        str(each.readlink()).startswith(f"{folder}/session") and _is_written(process / "fdinfo" / each.name)
        for each in (process / "fd").iterdir()
    )


def _is_written(information: Path) -> bool:
    """Whether a file is open for writing, by its line "flags:", an octal number (proc(5))."""
    flags = next(line for line in information.read_text().splitlines() if line.startswith("flags:"))
    return int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _lock(descriptor: int) -> bool:
    """Whether nobody else holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    # Nobody writes: this ends when the driver does.
    sys.stdin.buffer.read()
    _clear(Path(sys.argv[1]))
