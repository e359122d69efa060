"""Files as others see them: whole or not at all, whoever writes them at the same time; and folders: whether they can be
written, how old they are, how much they hold, and which modules.
"""

import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autopeft.errors import AutopeftError


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A place beside `target`, nobody else's, to write a file to: it becomes `target` when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(target)
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def beside(target: Path, ending: str = "writing") -> Path:
    """A place beside `target` that nobody else has, for what is on its way to it or away."""
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}.{ending}")


def remove_old(folders: Iterable[Path], seconds: float) -> None:
    """Takes away those in which nothing came or went for so long; what cannot be taken away stays."""
    for folder in folders:
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > seconds:
                shutil.rmtree(folder, ignore_errors=True)


def bytes_in(folder: Path) -> int:
    """Bytes of all files in a folder; 0 where there is none."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def found_in(folder: Path) -> tuple[str, ...]:
    """The names of a folder's modules, none of which is imported: of things of which each is one file."""
    return tuple(sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")))


def require_folder(folder: str | Path) -> None:
    """Raises AutopeftError where the folder for weights and data cannot be made or written; leaves nothing behind."""
    missing: list[Path] = []
    if "://" in str(folder):
        raise AutopeftError(f"'{folder}' is an address, no folder; give a folder of this machine by --folder.")
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
