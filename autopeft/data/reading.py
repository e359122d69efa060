"""What a data argument means: a file, a folder of files, a saved `datasets` folder, a hub name; a table for each split.

Cells are Python values as the data holds them: text from CSV and TSV, where an empty cell is an empty text; from the
rest also numbers, lists, and None or NaN for what is missing.
"""

import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowException

from autopeft.data.files.columnar import as_frame, read_parquet, require_mapped, sliced, with_class_names
from autopeft.data.files.conll import conll_table, is_conll, read_conll
from autopeft.data.files.contents import Allowance, Request, decoded, head, is_compressed, kind_of, storable
from autopeft.data.files.image_folder import read_image_folder, with_images
from autopeft.data.files.objects import read_objects
from autopeft.data.files.separated import read_separated, separated_table
from autopeft.data.hub import load_from_hub
from autopeft.data.place import nothing_there, require_dataset
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    # CoNLL's own names.
    "testa": "validation",
    "testb": "test",
}


def _read_text(path: Path, request: Request) -> pd.DataFrame:
    """A table, or CoNLL under another name. Raises AutopeftError."""
    text = decoded(path, request.allowance)
    return (conll_table if is_conll(text) else separated_table)(path, text, request)


_READERS: Mapping[str, Callable[[Path, Request], pd.DataFrame]] = {
    ".csv": read_separated,
    ".tsv": _read_text,
    ".txt": _read_text,
    ".jsonl": read_objects,
    ".ndjson": read_objects,
    ".json": read_objects,
    ".parquet": read_parquet,
    **dict.fromkeys((".conll", ".conllu", ".bio", ".iob", ".iob2"), read_conll),
}
_PART = re.compile(r"(.+?)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?")
"""The name of one of several files that are a split together; older ones end in a hash."""


def read_splits(
    data: str, say: Callable[[str], None] = lambda _: None, named: Iterable[str] = ()
) -> dict[str, pd.DataFrame]:
    """Tables by split: `train` always, `validation` and `test` where the data has them. Raises AutopeftError.

    `say` takes notes for the user; `named` are columns that he named.
    """
    request = Request(Allowance(), say, frozenset(named))
    try:
        path = Path(data).expanduser()
        if path.is_file():
            if (part := _part(path)) and part.of > 1:
                say(f"'{path.name}' is one of {part.of} parts; give their folder to read them all")
            return {"train": with_images(_read_file(path, request), path.parent)}
        if path.is_dir():
            is_saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
            splits = (_read_saved if is_saved else _read_folder)(path, request)
        elif path.exists() or path.is_symlink():
            head(path)  # tells why it is no file
            splits = {}
        else:
            splits = _read_hub(data, request)
    except (OSError, RuntimeError) as error:
        raise AutopeftError(f"'{brief(data, 200)[1:-1]}' cannot be read: {_reason(error)}") from error
    if "train" not in splits:
        raise AutopeftError(f"'{data}' has no training split; it has {', '.join(sorted(splits)) or 'none'}.")
    return splits


def _read_file(path: Path, request: Request) -> pd.DataFrame:
    """One file, whatever it holds. Raises AutopeftError."""
    kind = path.suffix
    try:
        head(path)
        kind = kind_of(path)
        if kind not in _READERS:
            hint = "; save a workbook as 'CSV UTF-8'" if kind in (".xlsx", ".xls", ".ods") else ""
            raise AutopeftError(
                f"'{path}' is no kind of file that can be read; give one of {', '.join(_READERS)}, "
                f"also compressed as .gz, .bz2, .xz, .zst or .zip{hint}."
            )
        frame = _READERS[kind](path, request)
    except MemoryError as error:
        raise AutopeftError(f"'{path}' takes more memory than there is; leave out rows or columns.") from error
    # What damaged files make their readers raise; `zipfile` has nothing better than a RuntimeError for some.
    except (
        *(ValueError, OSError, EOFError, RuntimeError),
        *(ArrowException, zlib.error, lzma.LZMAError, zipfile.BadZipFile),
    ) as error:
        name = "".join(dict.fromkeys((kind, path.suffix.lower()))).removeprefix(".")
        raise AutopeftError(f"'{path}' cannot be read as {name}: {_reason(error)}") from error
    frame.columns = [storable(str(name)).strip("\ufeff\u200b").strip() for name in frame.columns]
    if frame.empty:
        header = f", only the header {', '.join(frame.columns)}" if len(frame.columns) else ""
        raise AutopeftError(f"'{path}' holds no rows{header}.")
    return frame.astype(object)


@dataclass(frozen=True)
class _Part:
    """A file that is a split, or a part of one."""

    split: str
    path: Path
    number: int = 0
    of: int = 1


def _part(path: Path) -> _Part | None:
    """What a file's name says of it."""
    whole = Path(path.stem) if is_compressed(path) else path
    if whole.suffix.lower() not in _READERS:
        return None
    numbered = _PART.fullmatch(whole.stem)
    split = _SPLITS.get((numbered[1] if numbered else whole.stem).lower())
    if split is None:
        return None
    return _Part(split, path, int(numbered[2]), int(numbered[3])) if numbered else _Part(split, path)


def _read_folder(path: Path, request: Request) -> dict[str, pd.DataFrame]:
    parts = _parts(path) or _parts(path / "data")
    if not parts:
        if images := read_image_folder(path, request, lambda name: _SPLITS.get(name.lower()), _read_file):
            return images
        held = ", ".join(sorted(file.name for file in path.iterdir())[:6]) or "nothing"
        inner = next((each for each in sorted(path.iterdir()) if _parts(each)), None)
        hint = f" Give one of its folders, such as '{inner}'." if inner else ""
        raise AutopeftError(f"'{path}' holds no train file such as train.csv; it holds {held}.{hint}")
    splits = {}
    for split in dict.fromkeys(part.split for part in parts):
        files = _all_parts(path, split, [part for part in parts if part.split == split])
        frames = [with_images(_read_file(file, request), file.parent) for file in files]
        for file, frame in zip(files, frames, strict=True):
            if list(frame.columns) != list(frames[0].columns):
                raise AutopeftError(
                    f"'{file}' has the columns {brief(', '.join(frame.columns), 200)}, but '{files[0].name}' has "
                    f"{brief(', '.join(frames[0].columns), 200)}."
                )
        splits[split] = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    return splits


def _parts(path: Path) -> list[_Part]:
    """Hub checkouts keep them in a folder `data`."""
    return [part for file in sorted(path.iterdir()) if (part := _part(file))] if path.is_dir() else []


def _all_parts(path: Path, split: str, parts: list[_Part]) -> list[Path]:
    """The files of a split in their order. Raises AutopeftError when they are too many or too few."""
    by_number = {part.number: part for part in parts}
    if len({part.of for part in parts}) > 1 or len(by_number) < len(parts):
        names = [part.path.name for part in parts]
        raise AutopeftError(f"'{path}' holds two {split} files, {names[0]} and {names[1]}; keep one.")
    of = parts[0].of
    if missing := [number for number in range(of) if number not in by_number][:1]:
        raise AutopeftError(
            f"'{path}' holds {len(parts)} of the {of} {split} files: number {missing[0]} is missing, beside "
            f"{parts[0].path.name}."
        )
    return [by_number[number].path for number in sorted(by_number)]


def _read_saved(path: Path, request: Request) -> dict[str, pd.DataFrame]:
    from datasets import DatasetDict, load_from_disk

    try:
        for file in path.rglob("*"):
            if not file.is_dir():
                head(file)
            if file.suffix == ".arrow":
                require_mapped(file)
        saved = load_from_disk(str(path))
        return _as_frames(saved if isinstance(saved, DatasetDict) else {"train": saved}, path, path, request)
    except AutopeftError:
        raise
    except Exception as error:
        raise AutopeftError(f"'{path}' cannot be read as a saved data set: {_reason(error)}") from error


def _read_hub(data: str, request: Request) -> dict[str, pd.DataFrame]:
    hint = require_dataset(data)
    if data.partition("@")[0] in _kinds_of_files():
        raise nothing_there(data, hint)
    try:
        from datasets.config import HF_CACHE_HOME

        if hint:
            request.say(f"no file or folder '{brief(data, 200)[1:-1]}' is here; asking the hub.{hint}")
        return _as_frames(load_from_hub(data, request.say), data, Path(HF_CACHE_HOME), request)
    except AutopeftError:
        raise
    except Exception as error:
        raise AutopeftError(
            f"'{data}' is no file, no folder, and no data set that the hub gives: {_reason(error)}{hint}"
        ) from error


def _kinds_of_files() -> Container[str]:
    """Names that `datasets` takes for kinds of local files instead of data sets."""
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    kinds: Container[str] = _PACKAGED_DATASETS_MODULES
    return kinds


def _as_frames(splits: Mapping[str, Any], data: object, folder: Path, request: Request) -> dict[str, pd.DataFrame]:
    """Class labels as their names, and None where there is none (-1 in the test splits of benchmarks).

    `folder` is where images lie that the data only names.
    """
    frames: dict[str, pd.DataFrame] = {}
    others = []
    for name, dataset in splits.items():
        split = _SPLITS.get(name.lower())
        if split is None:
            others.append(name)
        elif split in frames:
            raise AutopeftError(f"'{data}' holds two {split} splits, of which one is {brief(name)}; keep one.")
        elif len(dataset):
            frame = as_frame(sliced(dataset, data, request.allowance), dataset.column_names)
            frames[split] = with_images(with_class_names(frame, dataset.features.to_dict()), folder)
    if others:
        request.say(f"splits that are not used: {brief(', '.join(others), 200)}")
    return frames


def _reason(error: BaseException) -> str:
    """The first line of an error, as the end of a sentence."""
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (told.strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
