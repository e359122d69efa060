"""Errors that answer a user: what was wrong, the value, what would be right.

The command line prints them as one sentence with exit code 2; anything else that escapes is a defect of ours.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec

from autopeft.foreign import printable, told

EXTRAS = {
    "quantised": ("bitsandbytes",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "service": ("fastapi", "itsdangerous", "limits", "prometheus_client", "sse_starlette", "uvicorn"),
}
"""Libraries that only some requests need, by the name that pip installs them by."""
_MOST = 1500
"""Characters of an answer; whatever a stranger's file makes longer than this is cut in the middle."""


class AutopeftError(Exception):
    """A user's slip, or a request that cannot be met. Its text is the whole answer, and safe to print."""

    def __init__(self, text: str) -> None:
        if len(text) > _MOST:
            text = f"{text[: _MOST // 2]} … {text[-_MOST // 2 :]}"
        super().__init__(printable(text))


class NoSuchSearch(AutopeftError):
    """A database holds no search of a name."""


class CannotAttach(AutopeftError):
    """A method cannot go where it was asked to go; the text says why."""


class CannotMerge(AutopeftError):
    """A method's mathematics do not allow it to be merged into the backbone's weights."""


def unknown(kind: str, value: str, known: Iterable[str]) -> AutopeftError:
    """The error for a name that is not among those known, with the nearest one suggested."""
    names = sorted(known)
    folded = {name.casefold(): name for name in names}
    close = _near(value[:200].casefold(), folded) if isinstance(value, str) else None
    hint = f" Did you mean '{folded[close]}'?" if close else ""
    return AutopeftError(f"unknown {kind} '{told(value, 200)}'.{hint} Known: {', '.join(names) or 'none'}.")


def unknown_search(name: str, known: Iterable[str]) -> NoSuchSearch:
    """The same for a search."""
    return NoSuchSearch(str(unknown("search", name, known)))


def _near(value: str, known: Iterable[str]) -> str | None:
    """The one that is most like it; letters that changed places are the likeliest slip."""
    names = [*known]
    swapped = [name for name in names if sorted(name) == sorted(value)]
    return next(iter(swapped or get_close_matches(value, names, n=1, cutoff=0.5)), None)


def require_extra(name: str) -> None:
    """Raises AutopeftError where libraries of an extra are missing; imports none of them."""
    if missing := [library for library in EXTRAS[name] if find_spec(library) is None]:
        raise AutopeftError(f"this needs {', '.join(missing)}: pip install {' '.join(missing)}.")
