"""What a data argument means, told without a hub and without reading it, so that slips are answered at once."""

from difflib import get_close_matches
from pathlib import Path

from autopeft.data.files.contents import is_compressed
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

ENDINGS = (
    *(".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet"),
    *(".conll", ".conllu", ".bio", ".iob", ".iob2"),
)
"""Of files that can be read; a name of the hub does not end like this."""


def require_dataset(data: str) -> str:
    """Raises AutopeftError where there is nothing of this name here, and no hub can have it; else gives what to add
    where a hub has it not: a near miss, or nothing.
    """
    path = Path(data)
    if "://" in data:
        raise AutopeftError(f"'{brief(data, 200)[1:-1]}' is an address; download what lies there and give the file.")
    try:
        if path.expanduser().exists() or path.is_symlink():
            return ""
        near = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    except (OSError, RuntimeError):  # Whoever reads it says better what is wrong.
        return ""
    close = get_close_matches(path.name, near, n=1)
    hint = f" Did you mean '{path.parent / close[0]}'?" if close else ""
    if _is_path(data):
        raise nothing_there(data, hint)
    return hint


def nothing_there(data: str, hint: str) -> AutopeftError:
    """The answer to a data argument that can only be a path, and leads nowhere."""
    return AutopeftError(f"there is no file or folder '{brief(data, 200)[1:-1]}'.{hint}")


def _is_path(data: str) -> bool:
    """Whether a data argument cannot name a data set."""
    name = data.partition("@")[0]
    if Path(data).suffix.lower() in ENDINGS or is_compressed(Path(data)) or name.count("/") > 2:
        return True
    return not name or name[0] in "./~" or name.endswith("/") or "//" in name or f".{name}" in ENDINGS
