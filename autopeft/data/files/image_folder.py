"""Images that a folder or a table names: listed, never opened.

A folder of images is one of class folders (`train/cat/1.jpg`; all is the training split where no folder is named for
one), or has a table `metadata.csv`, `.jsonl` or `.parquet` with a column `file_name`, in each split's folder or above
them, as `datasets` has it. In other tables images are a column of their paths, or of their bytes. A table may come from
a stranger, so that it names files below its own folder only; what lies in a folder is its owner's affair, links too.
"""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, cast

import pandas as pd

from autopeft.data.cells import is_blank
from autopeft.data.files.contents import Request
from autopeft.data.images import ENDINGS, Found, NoImage
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_NAME = "file_name"
_PATH = 120
"""Bytes that a path takes as a Python value, besides its characters."""
_PLACES = "places of images"
"""What a table's `attrs` hold: the folder that names are relative to, and the one that no name leads out of."""


def read_image_folder(
    folder: Path, request: Request, split_of: Callable[[str], str | None], read: Callable[[Path, Request], pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """Tables by split, with a column `image` of paths; none where a folder holds no images. Raises AutopeftError.

    `split_of` knows names of splits, `read` reads a table.
    """
    folder = folder.resolve()
    if (table := _table(folder)) is not None:
        return _by_split(_listed(table, folder, request, read), folder, table, split_of)
    if _folders(folder) == [folder / "data"]:  # as checkouts of the hub have it
        return read_image_folder(folder / "data", request, split_of, read)
    named = {inner: split for inner in _folders(folder) if (split := split_of(inner.name))}
    # A class may be named `train` too: its folder holds images as those beside it do.
    if set(_folders(folder)) != set(named) and not any(_folders(inner) or _table(inner) for inner in named):
        named = {}
    if not named:
        frame = _classes(folder, request)
        return {} if frame.empty else {"train": frame}
    if unused := [inner.name for inner in _folders(folder) if inner not in named]:
        request.say(f"folders of '{folder.name}' that are no splits, left out: {brief(', '.join(unused), 200)}")
    splits: dict[str, pd.DataFrame] = {}
    for inner, split in named.items():
        table = _table(inner)
        frame = _classes(inner, request) if table is None else _listed(table, folder, request, read)
        if frame.empty and (lying := len(_images(inner))):
            if split != "test":
                raise AutopeftError(
                    f"'{inner}' holds images without classes; put them into one folder for each class, or a table "
                    f"{_TABLES[0]} with the columns {_NAME} and label beside them."
                )
            request.say(f"images of '{inner.name}' without a class, left out: {lying:,}")
        if frame.empty:
            continue
        if split in splits:
            raise AutopeftError(f"'{folder}' holds two folders of the {split} split; keep one.")
        splits[split] = frame
    return splits


def with_images(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The table with whole paths, or bytes, where it holds images or names them, relative to this folder.

    A column of images holds bytes and paths as `datasets` writes them, or names of which most have an image's ending. A
    name of no file below the folder stays as it is, and says so when it is opened: other columns may be what is asked.
    """
    find = _Finder(folder, folder)
    for at in range(frame.shape[1]):
        cells = frame.iloc[:, at].tolist()
        held = [cell for cell in cells if not _is_missing(cell)]
        names = sum(isinstance(cell, str) and _is_image(cell) for cell in held)
        if held and (all(map(_is_pair, held)) or 2 * names > len(held)):
            _set(frame, at, [find.in_cell(cell) for cell in cells])
    return find.noted(frame)


def with_images_in(frame: pd.DataFrame, columns: Collection[str]) -> pd.DataFrame:
    """A table that was read, and images also in columns that hold them because somebody says so."""
    find = _Finder(*map(Path, frame.attrs[_PLACES]))
    for at, name in enumerate(frame.columns):
        if name in columns:
            _set(frame, at, [find.in_cell(cell) for cell in frame.iloc[:, at].tolist()])
    return frame


def _set(frame: pd.DataFrame, at: int, cells: list[Any]) -> None:
    """A column by its place, as Python values; of anything but a series pandas would make a column of texts."""
    frame.isetitem(at, cast(Any, pd.Series(cells, index=frame.index, dtype=object)))


class _Finder:
    """Finds the files that a table names, all of them below one folder."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        """What names are relative to."""
        self.root = root.resolve()
        self.outside = (
            f"which lies outside of '{self.root}'; put images below the folder of the table that names them, or their "
            "bytes into the table."
        )
        self.nowhere = f"and there is no such file in '{self.folder}'."
        self._resolved: dict[str, str] = {}

    def noted(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The table, which says from now on where its images lie."""
        frame.attrs[_PLACES] = (str(self.folder), str(self.root))
        return frame

    def in_cell(self, cell: Any) -> Any:
        """An image's bytes or its whole path, None where there is none; what is something else stays as it is."""
        if _is_missing(cell):
            return None
        value = (cell["bytes"] or cell["path"]) if _is_pair(cell) else cell
        return self(value) if isinstance(value, str) and not isinstance(value, Found | NoImage) else value

    def __call__(self, name: str) -> Found | NoImage:
        """The whole path, or the name with the reason why it is none; what lies outside is not looked at."""
        if "://" in name:
            return NoImage(name, "which is an address; download it, and name the file.")
        try:
            path = self._path(name)
            if not Path(path).is_relative_to(self.root):
                return NoImage(name, self.outside)
            return Found(path) if Path(path).is_file() else NoImage(name, self.nowhere)
        except (OSError, ValueError):  # too long, a zero character
            return NoImage(name, self.nowhere)

    def _path(self, name: str) -> str:
        """Without links. Tables written on Windows have backslashes."""
        path = os.path.join(self.folder, name)  # noqa: PTH118 (a hundred thousand times)
        if "\\" in name and not os.path.lexists(path):
            return self._path(name.replace("\\", "/"))
        above, last = os.path.split(path)
        if last in ("", ".", "..") or os.path.islink(path):  # noqa: PTH114
            return os.path.realpath(path)
        if above not in self._resolved:
            self._resolved[above] = os.path.realpath(above)
        return f"{self._resolved[above]}/{last}"


def _table(folder: Path) -> Path | None:
    """The table that names a folder's images. Raises AutopeftError where there are two."""
    found = [folder / name for name in _TABLES if (folder / name).exists()]
    if len(found) > 1:
        raise AutopeftError(
            f"'{folder}' holds two tables of its images, {found[0].name} and {found[1].name}; keep one."
        )
    return found[0] if found else None


def _listed(table: Path, root: Path, request: Request, read: Callable[[Path, Request], pd.DataFrame]) -> pd.DataFrame:
    """What a table says of images, with their paths in the place of their names. Raises AutopeftError."""
    frame = read(table, request)
    names = list(frame.columns)
    if names.count(_NAME) != 1 or "image" in names:
        raise AutopeftError(
            f"'{table}' must have one column {_NAME} with the images' names, and none that is called image; it has "
            f"{brief(', '.join(names), 200)}."
        )
    find = _Finder(table.parent, root)
    at = names.index(_NAME)
    paths = []
    for row, name in enumerate(frame.iloc[:, at], 1):
        if not isinstance(name, str) or not name.strip():
            raise AutopeftError(f"row {row} of '{table}' has no {_NAME}, but {brief(name)}.")
        path = find(name)
        if isinstance(path, NoImage):
            raise AutopeftError(f"row {row} of '{table}' names the image {brief(name, 200)}, {path.reason}")
        paths.append(path)
    request.allowance.take(sum(map(len, paths)) + _PATH * len(paths), table)
    _set(frame, at, paths)
    names[at] = "image"
    frame.columns = pd.Index(names)
    return find.noted(frame)


def _by_split(
    frame: pd.DataFrame, folder: Path, table: Path, split_of: Callable[[str], str | None]
) -> dict[str, pd.DataFrame]:
    """The splits of a table above their folders; all is the training split where no image lies in one of those.

    Raises AutopeftError where some do and some do not: what was put aside for a test could be learned.
    """
    splits = [split_of(Path(path).relative_to(folder).parts[0]) for path in frame["image"]]
    if not any(splits):
        return {"train": frame}
    if None in splits:
        raise AutopeftError(
            f"row {splits.index(None) + 1} of '{table}' names an image that lies in no folder of a split, where others "
            "do; put it into one."
        )
    of = pd.Series(splits, dtype=object)
    return {str(split): frame[of == split].reset_index(drop=True) for split in dict.fromkeys(splits)}


def _classes(folder: Path, request: Request) -> pd.DataFrame:
    """Images with the folder that each lies in as its label; no row where there are none. Raises AutopeftError."""
    paths: list[str] = []
    labels: list[str] = []
    others: list[str] = []
    for inner in _folders(folder):
        found = _images(inner)
        if deeper := next((below for below in _folders(inner) if _images(below)), None):
            raise AutopeftError(
                f"'{deeper}' lies below '{inner.name}', so that it is not clear which of them is the class; "
                "let each class folder hold its images itself."
            )
        paths += found
        labels += [inner.name] * len(found)
        others += [entry.name for entry in _files(inner) if not _is_image(entry.name)]
    request.allowance.take(sum(map(len, paths)) + _PATH * len(paths), folder)
    if unwritten := next((path for path in paths if not _is_written(path)), None):
        raise AutopeftError(f"the name of {brief(unwritten, 200)} is not UTF-8; rename it.")
    if paths and others:
        request.say(
            f"files of '{folder.name}' that are no images, left out: {len(others):,}, such as {brief(others[0])}"
        )
    if paths and (beside := len(_images(folder))):
        request.say(f"images of '{folder.name}' beside its class folders, left out: {beside:,}")
    images = pd.Series([Found(path) for path in paths], dtype=object)
    return _Finder(folder, folder).noted(pd.DataFrame({"image": images, "label": pd.Series(labels, dtype=object)}))


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in entries if not entry.name.startswith((".", "__")) and entry.is_dir())


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith(".") and entry.is_file())


def _images(folder: Path) -> list[str]:
    """Paths in the order of their names."""
    return sorted(entry.path for entry in _files(folder) if _is_image(entry.name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def _is_written(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_pair(cell: object) -> bool:
    """Whether it is an image as `datasets` keeps it."""
    return isinstance(cell, dict) and cell.keys() == {"bytes", "path"}


def _is_missing(cell: object) -> bool:
    if isinstance(cell, dict):
        return _is_pair(cell) and not any(cell.values())
    return is_blank(cell)
