"""What a plan from the network may name: places below the operator's folders, uploads, and code that he registered.

Links are followed before a place is judged, also those in a folder. What lies elsewhere is answered in the same way
whether it is there or not, so that nobody learns what there is.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.foreign import brief, told
from autopeft.plan import Plan
from autopeft.searching.slips import require_names, require_places
from autopeft.service.code import MAY_BE_CODE, code_of
from autopeft.service.problems import Forbidden, NotThere
from autopeft.service.settings import Settings

UPLOAD = "upload:"
"""How the place of an uploaded file begins."""
_UPLOAD = re.compile(rf"{UPLOAD}([0-9a-f]{{32}})/([^/\0]+)")
_OF_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*){0,2}(@[\w.-]+)?")
_MOST_FILES = 200_000
"""Of a folder that are looked at."""


def allowed(plain: Mapping[str, Any], settings: Settings) -> Plan:
    """The plan of a search, with places as they are on this machine. Raises AutopeftError."""
    plan = allowed_code(Plan.from_dict(plain), settings)
    plan = replace(plan, model=model_place(plan.model, settings), data=data_place(plan.data, settings))
    require_names(plan)
    require_places(plan)
    return plan


def allowed_code(plan: Plan, settings: Settings) -> Plan:
    """The plan with code where it lies. Raises Forbidden for code that the operator did not register."""
    if plan.trust_remote_code and not settings.trust_remote_code:
        raise Forbidden("this service runs no code that comes with models; give a model that needs none.")
    found: dict[str, Any] = {}
    code = code_of(plan)
    for what in MAY_BE_CODE:
        given = getattr(plan, what)
        if given in settings.trusted_as(what):
            found[what] = settings.trusted_code[given]
        elif what in code and given not in settings.trusted_code.values():
            raise Forbidden(
                f"the {what} {brief(given)} is no {what} of autopeft's: code, and cards, come only from the operator "
                "of this service, by `autopeft serve --trust`."
            )
    return replace(plan, **found)


def data_place(given: str, settings: Settings) -> str:
    """Where data lies: an upload, or below a folder for data. Raises AutopeftError."""
    if given.startswith(UPLOAD):
        return str(_uploaded(given, settings))
    return _place("data", given, settings.data_roots, settings.hub)


def model_place(given: str, settings: Settings) -> str:
    """Where a model lies: below a folder for models, or on the hub. Raises AutopeftError."""
    return _place("model", given, settings.model_roots, settings.hub)


def _uploaded(given: str, settings: Settings) -> Path:
    if (named := _UPLOAD.fullmatch(given)) and named[2] not in (".", ".."):
        file = settings.uploads / named[1] / named[2]
        if file.is_file() and not file.is_symlink():
            return file
    raise NotThere(f"there is no upload {brief(given)}; upload the file once more.")


def _place(what: str, given: str, roots: Iterable[Path], hub: bool) -> str:
    real_roots = [Path(os.path.realpath(root)) for root in roots]
    path = Path(given)
    for place in [path] if path.is_absolute() else [root / path for root in real_roots]:
        real = _real(place)
        if real is not None and _within(real, real_roots):
            if real.is_dir():
                _require_within(what, given, real, real_roots)
            return str(real)
    if hub and _OF_HUB.fullmatch(given) and not path.exists():
        return given
    or_hub = "" if hub else ", and it fetches none from a hub"
    raise Forbidden(
        f"there is no {what} '{told(given)}' in the folders that this service reads{or_hub}; its operator names them "
        f"by --{what}-root."
    )


def _real(place: Path) -> Path | None:
    """A place with its links followed; None where there is nothing."""
    try:
        return Path(os.path.realpath(place, strict=True))
    except (OSError, ValueError):
        return None


def _within(real: Path, roots: Iterable[Path]) -> bool:
    return any(real.is_relative_to(root) for root in roots)


def _require_within(what: str, given: str, folder: Path, roots: list[Path]) -> None:
    """Raises Forbidden where a link in a folder leads out of all roots."""
    files = (Path(where) / name for where, folders, names in os.walk(folder) for name in (*folders, *names))
    looked_at = 0
    for looked_at, file in enumerate(islice(files, _MOST_FILES + 1), 1):  # noqa: B007 (counted)
        if file.is_symlink() and ((real := _real(file)) is None or not _within(real, roots)):
            raise Forbidden(f"the {what} '{told(given)}' holds the link '{told(file.name)}', which leads out of it.")
    if looked_at > _MOST_FILES:
        raise AutopeftError(f"the {what} '{told(given)}' holds more than {_MOST_FILES:,} files; give a smaller folder.")
