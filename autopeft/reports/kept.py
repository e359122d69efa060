"""What takes seconds to find out, and is the same until something is installed or changed: kept between commands.

It is a cache in the user's own folder for such: what is missing, old or damaged is made again, and where nothing can be
written nothing is kept.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autopeft.files import appearing
from autopeft.shipped import shipped

_LIBRARIES = ("peft", "torch", "transformers")


def kept(
    what: str, names: Iterable[str], make: Callable[[tuple[str, ...]], Mapping[str, Mapping[str, Any]]]
) -> Mapping[str, Mapping[str, Any]]:
    """Plain values by name; `make` is asked for those that are not known yet."""
    names, state = tuple(names), _state()
    known = _read(what, state)
    if missing := tuple(name for name in names if name not in known):
        known = {**known, **make(missing)}
        with suppress(OSError, RuntimeError), appearing(_folder() / f"{what}.json") as file:
            file.write_text(json.dumps({"state": state, "values": known}), encoding="utf-8")
    return {name: known[name] for name in names}


def _read(what: str, state: str) -> Mapping[str, Mapping[str, Any]]:
    try:
        found = json.loads((_folder() / f"{what}.json").read_text(encoding="utf-8"))
        values: Mapping[str, Mapping[str, Any]] = found["values"] if found["state"] == state else {}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return {}
    return values


def _folder() -> Path:
    """Raises RuntimeError where nobody has a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autopeft"


def _state() -> str:
    """What the program, its cards and its libraries are, in a few letters."""
    files = [*Path(__file__).parents[1].rglob("*.py"), *shipped("search_spaces").rglob("*.yaml")]
    looks = [(str(file), (look := file.stat()).st_size, look.st_mtime_ns) for file in sorted(files)]
    return hashlib.sha256(repr((looks, [version(each) for each in _LIBRARIES])).encode()).hexdigest()
