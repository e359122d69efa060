"""Files that users upload: written to the disk as they come, as many bytes as may be, each in a folder of its own."""

import re
import shutil
import unicodedata
import uuid
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from anyio import to_thread

from autopeft.data.files.contents import is_compressed
from autopeft.data.place import ENDINGS
from autopeft.errors import AutopeftError
from autopeft.files import remove_old
from autopeft.foreign import brief
from autopeft.service.allowed import UPLOAD
from autopeft.service.problems import NoRoom, TooLarge, not_written
from autopeft.service.settings import Settings
from autopeft.sizes import show_bytes

_NAME = re.compile(r"\w[\w.,() -]{0,150}")
_LONGEST = 255
"""Bytes of a name that file systems take."""
_SPARE = 2**28
"""Bytes that an upload leaves free on the disk."""
_FLUSHED = 2**22
"""Bytes that are written at a time."""
_UNUSED = 24 * 3600
"""Seconds for which a file is kept that no search uses."""


async def receive(
    name: str, stream: AsyncIterator[bytes], settings: Settings, used: Collection[str]
) -> tuple[str, int]:
    """How a plan names the file, and its bytes. Raises AutopeftError; then nothing is left on the disk. Files that came
    long ago, and are not `used`, make room.
    """
    name = unicodedata.normalize("NFC", name)  # Some systems write an umlaut as two.
    require_name(name)
    await to_thread.run_sync(_sweep, settings, used)
    folder = settings.uploads / uuid.uuid4().hex
    size, held = 0, bytearray()
    try:
        folder.mkdir(parents=True)
        with (folder / name).open("xb") as file:
            async for chunk in stream:
                size += len(chunk)
                if size > settings.upload_limit:
                    raise TooLarge(f"the file is larger than {show_bytes(settings.upload_limit)}, the limit here.")
                held += chunk
                if len(held) >= _FLUSHED:
                    _require_room(folder)
                    await to_thread.run_sync(file.write, bytes(held))
                    held.clear()
            file.write(held)
        if not size:
            raise AutopeftError("the file is empty.")
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise not_written(error) from error
        raise
    return f"{UPLOAD}{folder.name}/{name}", size


def forget(data: str, settings: Settings, used: Collection[str]) -> None:
    """Takes an upload away that no search uses any more; other data stays."""
    file = Path(data)
    if file.parent.parent == settings.uploads and data not in used:
        shutil.rmtree(file.parent, ignore_errors=True)


def _sweep(settings: Settings, used: Collection[str]) -> None:
    """Takes away what nobody began a search with within a day."""
    in_use = {Path(each).parent for each in used}
    remove_old((each for each in settings.uploads.glob("*") if each not in in_use), _UNUSED)


def require_name(name: str) -> None:
    """Raises AutopeftError for the name of a file that is no plain one, or of a kind that nobody reads."""
    if not _NAME.fullmatch(name) or ".." in name or len(name.encode()) > _LONGEST:
        raise AutopeftError(
            f"a file cannot be named {brief(name)}; use letters, digits, spaces and . , ( ) _ -, and no folders."
        )
    if Path(name).suffix.lower() not in ENDINGS and not is_compressed(Path(name)):
        raise AutopeftError(f"'{name}' is of no kind that can be read: {', '.join(ENDINGS)}.")


def _require_room(folder: Path) -> None:
    if shutil.disk_usage(folder).free < _SPARE:
        raise NoRoom("the disk of the service is full; ask its operator.")
