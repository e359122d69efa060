"""Images of others, as a path or as bytes, become RGB; whatever they hold, they are read or answered.

EXIF's orientation is applied, transparent parts are white, of what moves the first frame counts, and 16 bits become 8.
Only formats of images are opened; Pillow reads others too, some by running a program.
"""

import hashlib
import os
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autopeft.data.cells import is_blank
from autopeft.data.files.contents import head, require_data
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.sizes import show_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Of names of images, in small letters."""
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MOST_PIXELS = 100_000_000
"""Of an image; as RGB it takes 300 MB then."""


class Found(str):
    """The whole path of an image that a table may name, or that lies in a folder of images."""

    __slots__ = ()


class NoImage(str):
    """The name of an image that a table may not name, or that is not there."""

    def __new__(cls, name: str, reason: str) -> "NoImage":
        made = super().__new__(cls, name)
        made.reason = reason
        return made

    reason: str
    """How a sentence goes on that names it."""

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return (NoImage, (str(self), self.reason))


@dataclass(frozen=True)
class Picture:
    """An image of a row, not opened yet: the same one wherever it lies, if its contents are the same."""

    source: Any = field(compare=False, repr=False)
    """What `open_image` takes."""
    what: str = field(compare=False)
    """Names the row."""
    digest: str = ""
    """Of the contents."""

    def __str__(self) -> str:
        return self.digest

    def opened(self) -> "Image":
        """Raises AutopeftError that names the row."""
        return open_image(self.source, self.what)


def picture(value: object, what: str) -> Picture:
    """An image that a table holds or names, with its digest. Raises AutopeftError that names the row."""
    source = _source(value, what)
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        except OSError as error:
            raise AutopeftError(f"the image '{source}' of {what} cannot be read: {_reason(error)}") from error
    else:
        digest = hashlib.sha256(source.getbuffer())
    return Picture(value, what, digest.hexdigest())


def is_image(value: object) -> bool:
    """Whether a cell is an image's bytes, or the name of one that is there; nothing is opened."""
    if isinstance(value, str):
        return not isinstance(value, NoImage) and value.lower().endswith(ENDINGS)
    return isinstance(value, bytes)


def are_images(cells: Iterable[object]) -> bool:
    """Whether most cells that hold something are meant as images, whether they are there or not."""
    held = [cell for cell in cells if not is_blank(cell)]
    return 2 * sum(isinstance(cell, NoImage) or is_image(cell) for cell in held) > len(held)


def open_image(value: object, what: str) -> "Image":
    """An image in RGB: a path, bytes, or an image of Pillow. Raises AutopeftError, in which `what` names the row."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise AutopeftError("images are read by Pillow, which is not installed: pip install pillow.") from error
    if isinstance(value, Image.Image):
        return _as_rgb(value, what)
    source = _source(value, what)
    what = f"the image '{source}' of {what}" if isinstance(source, Path) else f"the image of {what}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are checked here, and of damaged EXIF
            with Image.open(source, formats=_FORMATS) as image:
                return _as_rgb(image, what)
    except AutopeftError:
        raise
    except Image.DecompressionBombError as error:
        raise AutopeftError(f"{what} has more than {MOST_PIXELS:,} pixels; make it smaller.") from error
    except UnidentifiedImageError as error:
        raise AutopeftError(
            f"{what} is no {', '.join(_FORMATS)}; save it as one of these, or leave that row out."
        ) from error
    # Decoders raise anything for what is damaged.
    except Exception as error:
        raise AutopeftError(f"{what} cannot be read: {_reason(error)}") from error


def _source(value: object, what: str) -> Path | BytesIO:
    """The file, or what its bytes read as. Raises AutopeftError for what cannot be an image."""
    if isinstance(value, NoImage):
        raise AutopeftError(f"{what} names the image {brief(str(value), 200)}, {value.reason}")
    if isinstance(value, str | os.PathLike):
        _require_image(path := Path(value), what)
        return path
    if isinstance(value, bytes | bytearray | memoryview):
        return BytesIO(value)
    raise AutopeftError(f"{what} holds no image, neither as a path nor as bytes, but {brief(value)}.")


def _require_image(path: Path, what: str) -> None:
    """Raises AutopeftError where there is no file, or one that shows by its first bytes that it is something else."""
    try:
        if not os.path.lexists(path):
            raise AutopeftError(f"there is no file '{path}'.")
        require_data(head(path), path)
        if path.stat().st_size > 4 * MOST_PIXELS:
            raise AutopeftError(f"'{path}' is larger than {show_bytes(4 * MOST_PIXELS)}.")
    except (AutopeftError, OSError, ValueError) as error:
        raise AutopeftError(f"the image of {what} cannot be read: {_reason(error)}") from error


def _as_rgb(image: "Image", what: str) -> "Image":
    from PIL import Image, ImageOps

    width, height = image.size
    if width * height > MOST_PIXELS:
        raise AutopeftError(f"{what} has {width:,} x {height:,} pixels, more than {MOST_PIXELS:,}; make it smaller.")
    image.load()
    with suppress(Exception):  # EXIF may be damaged where pixels are not
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _of_16_bits(image, what)
    if image.has_transparency_data:
        behind = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _of_16_bits(image: "Image", what: str) -> "Image":
    """As 8 bits; Pillow itself would make all above 255 white."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() >= 2**16:
        raise AutopeftError(f"{what} holds no colours, but numbers of 32 bits; save it with 8 or 16 bits.")
    return Image.fromarray((values // 257).astype(np.uint8))


def _reason(error: BaseException) -> str:
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (" ".join(told[:1000].split()) or type(error).__name__).rstrip(".") + "."
