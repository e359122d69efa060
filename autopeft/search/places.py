"""Whether a search can write where it is told to, asked before it does anything that takes time."""

import tempfile
from contextlib import suppress
from pathlib import Path

from autopeft.errors import AutopeftError


def require_folder(folder: str) -> None:
    """Raises AutopeftError where the folder for weights and data cannot be made or written; leaves nothing behind."""
    missing: list[Path] = []
    try:
        path = Path(folder).absolute()
        missing = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise AutopeftError(
            f"the folder '{folder}' for weights and data cannot be written: {error.strerror}; give another by --folder."
        ) from error
    finally:
        for each in missing:
            with suppress(OSError):
                each.rmdir()
