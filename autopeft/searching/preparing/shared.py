"""Prepared data (tokens and probes) are shared by the searches that look at the same rows, in whatever database: each
marks what it uses, so that the last one that is deleted can take it away.

It is a cache: what is missing is made again by `resume` and `confirm`. Only a search that runs must not lose it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from autopeft.files import beside, bytes_in

_USERS = "used_by"


def marked(make: Callable[[], Path], user: str) -> Path:
    """The folder that `make` makes or finds, marked as used by a search; made again where it is taken away meanwhile.

    Where it belongs to somebody else, and cannot be written, it is only used.
    """
    while True:
        folder = make()
        try:
            (folder / _USERS).mkdir(exist_ok=True)
            (folder / _USERS / user).touch()
        except FileNotFoundError:
            continue
        except PermissionError:
            pass
        return folder


def take_away(folder: Path, user: str) -> dict[Path, int]:
    """Takes a search's marks off the prepared data in a folder, and away what nobody else has marked; returns that with
    the bytes that were freed. What nobody ever marked stays: earlier versions made it, and may use it.
    """
    freed = {}
    for mark in sorted(folder.glob(f"*/{_USERS}/{user}")):
        prepared = mark.parents[1]
        if set(mark.parent.iterdir()) == {mark}:
            # Renamed first, so that whoever marks it at this moment either is seen or finds nothing.
            away = beside(prepared, "deleting")
            prepared.rename(away)
            if {each.name for each in (away / _USERS).iterdir()} == {user}:
                freed[prepared] = bytes_in(away)
                shutil.rmtree(away)
                continue
            away.rename(prepared)
        mark.unlink(missing_ok=True)
    return freed
