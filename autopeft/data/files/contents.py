"""The bytes and the text of a file of others: compressed, in another encoding, not what its name says, a bomb.

Memory is bounded: what comes out of a file is counted while it is read, and refused above an allowance, so that a
kilobyte cannot become all of a machine's memory. Nothing waits: only regular files are opened.
"""

import bz2
import gzip
import lzma
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from autopeft import machine
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.sizes import show_bytes

_SHARE = 8
"""Of the machine's memory one part in so many: while it becomes a table, data is held two or three times."""
_PIECE = 2**20


class Allowance:
    """How much may still be decoded, over all files of one data argument."""

    def __init__(self, most: int | None = None) -> None:
        self.most = machine.memory() // _SHARE if most is None else most
        self._left = self.most

    def require(self, size: int, what: object) -> None:
        """Raises AutopeftError when there is no room for so many bytes more."""
        if size > self._left:
            raise AutopeftError(
                f"'{what}' is too large: with it the data takes more than {show_bytes(self.most)} when it is decoded, "
                "an eighth of this machine's memory; leave out rows or columns, or take a machine with more memory."
            )

    def take(self, size: int, what: object) -> None:
        """Uses room up. Raises AutopeftError when there is too little."""
        self.require(size, what)
        self._left -= size


@dataclass(frozen=True)
class Request:
    """What those who read files are told, and where they tell what they made of them."""

    allowance: Allowance = field(default_factory=Allowance)
    say: Callable[[str], None] = lambda _: None
    """Takes notes for the user."""
    named: frozenset[str] = frozenset()
    """Columns that the user named, which are there for sure."""


def kind_of(path: Path) -> str:
    """The ending that says how a file is read, without that of its compression: `.csv` of `train.csv.gz`."""
    suffix = path.suffix.lower()
    if suffix not in _OPENERS:
        return suffix
    inner = Path(path.stem).suffix.lower()
    return Path(_member(path).filename).suffix.lower() if suffix == ".zip" and not inner else inner


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() in _OPENERS


def contents(path: Path, allowance: Allowance) -> bytearray:
    """All bytes, uncompressed. Raises AutopeftError."""
    _require_file(path)
    opener = _OPENERS.get(path.suffix.lower(), _as_it_lies)
    if not is_compressed(path):
        allowance.require(path.stat().st_size, path)
    held = bytearray()
    with opener(path) as stream:
        while piece := stream.read(_PIECE):
            allowance.take(len(piece), path)
            held += piece
    require_data(held[:_HEAD], path)
    return held


def head(path: Path) -> bytes:
    """The first bytes of a file as it lies there. Raises AutopeftError."""
    _require_file(path)
    with path.open("rb") as stream:
        return stream.read(_HEAD)


def decoded(path: Path, allowance: Allowance) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a mark. Raises AutopeftError."""
    held = contents(path, allowance)
    encoding = next((name for mark, name in _MARKS.items() if held.startswith(mark)), "utf-8")
    try:
        text = held.decode(encoding)
    except UnicodeDecodeError as error:
        line, byte = held[: error.start].count(b"\n") + 1, held[error.start]
        raise AutopeftError(
            f"'{path}' is not {encoding.removesuffix('-sig').upper()} text: line {line} holds the byte {byte:#04x}; "
            "save it as UTF-8 (Excel calls that 'CSV UTF-8')."
        ) from error
    if (at := text.find("\0")) >= 0:
        raise AutopeftError(
            f"'{path}' is no text: line {text.count(chr(10), 0, at) + 1} holds a zero byte, as damaged files do, and "
            "UTF-16 without its mark; save it as UTF-8."
        )
    return text.lstrip("\ufeff")


def storable(text: str) -> str:
    """JSON may hold halves of characters and zero characters, which neither files nor databases take."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def require_data(start: bytes | bytearray, path: Path) -> None:
    """Raises AutopeftError for a file that is empty, or whose first bytes show that it is something else."""
    if not start:
        raise AutopeftError(f"'{path}' is empty.")
    kind = kind_of(path).removeprefix(".")
    for pattern, what in _DISGUISES.items():
        if re.match(pattern, start, re.IGNORECASE) and not what.startswith(f"{kind};"):
            raise AutopeftError(f"'{path}' is no {kind or 'data'}, but {what}.")


_HEAD = 512
_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_DISGUISES = {
    rb"version https://git-lfs": "a Git LFS pointer, which stands for the file; fetch it with `git lfs pull`",
    rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head|body)\b": "a web page; download the file itself, not its page",
    rb"(\xef\xbb\xbf)?\s*<\?xml\b": "XML; save it as CSV",
    rb"PK\x03\x04": "a zip archive or a workbook of Excel; unpack it, or save the workbook as 'CSV UTF-8'",
    rb"\xd0\xcf\x11\xe0": "a workbook of an old Excel; save it as 'CSV UTF-8'",
    rb"PAR1": "parquet; name it so",
    rb"%PDF-": "a PDF; extract a table from it",
    rb"SQLite format 3": "a database of SQLite; export a table of it as CSV",
    rb"ARROW1": "an Arrow file; save it as parquet",
    rb"\x1f\x8b": "compressed by gzip; let its name end in .gz",
    rb"\x28\xb5\x2f\xfd": "compressed by zstd; let its name end in .zst",
    rb"\xfd7zXZ": "compressed by xz; let its name end in .xz",
    rb"BZh[1-9]1AY": "compressed by bzip2; let its name end in .bz2",
}
"""First bytes, and what they are a sign of."""


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_symlink() and not path.exists():
        raise AutopeftError(f"'{path}' is a link to nothing.")
    raise AutopeftError(f"'{path}' is {'a folder' if path.is_dir() else 'a device or a pipe'}, not a file.")


def _member(path: Path) -> zipfile.ZipInfo:
    """The one file of an archive, but for what macOS adds."""
    _require_file(path)
    with zipfile.ZipFile(path) as archive:
        files = [info for info in archive.infolist() if not info.is_dir() and "__MACOSX/" not in info.filename]
    if len(files) != 1:
        held = ", ".join(info.filename for info in files[:6]) or "nothing"
        raise AutopeftError(f"'{path}' must hold one file, but holds {brief(held, 200)}; unpack it into a folder.")
    if files[0].flag_bits & 1:
        raise AutopeftError(f"'{path}' is protected by a password; unpack it.")
    return files[0]


def _as_it_lies(path: Path) -> IO[bytes]:
    return path.open("rb")


def _from_zip(path: Path) -> IO[bytes]:
    return zipfile.ZipFile(path).open(_member(path))


def _from_zst(path: Path) -> IO[bytes]:
    import pyarrow as pa

    return cast(IO[bytes], pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


_OPENERS: Mapping[str, Callable[[Path], Any]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _from_zst,
    ".zip": _from_zip,
}
