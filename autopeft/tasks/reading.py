"""Reads a user's data into tables, one for each split: files, folders of files, saved `datasets` folders, hub names.

Cells are Python values as the data holds them: text from CSV and TSV, where an empty cell is an empty text; from the
rest also numbers, lists, and None or NaN for what is missing.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd

from autopeft.errors import AutopeftError

_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def read_splits(data: str) -> dict[str, pd.DataFrame]:
    """Tables by split: `train` always, `validation` and `test` where the data has them. Raises AutopeftError."""
    path = Path(data).expanduser()
    if path.is_file():
        return {"train": _read_file(path)}
    if not path.is_dir():
        splits = _read_hub(data)
    elif (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        splits = _read_saved(path)
    else:
        splits = _read_folder(path)
    if "train" not in splits:
        raise AutopeftError(f"'{data}' has no training split; it has {', '.join(sorted(splits)) or 'none'}.")
    return splits


def _read_file(path: Path) -> pd.DataFrame:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise AutopeftError(f"'{path}' is no kind of file that can be read; give one of {', '.join(_READERS)}.")
    try:
        if path.stat().st_size == 0:
            raise AutopeftError(f"'{path}' is empty.")
        frame = reader(path)
    except (ValueError, OSError) as error:
        raise AutopeftError(f"'{path}' cannot be read as {path.suffix[1:].lower()}: {_reason(error)}") from error
    if frame.empty:
        header = f", only the header {', '.join(map(str, frame.columns))}" if len(frame.columns) else ""
        raise AutopeftError(f"'{path}' holds no rows{header}.")
    return frame.rename(columns=lambda name: str(name).strip()).astype(object)


def _separated(path: Path) -> pd.DataFrame:
    """CSV or TSV. Without quotes around the header, quotes in a tab-separated file are part of its texts."""
    text = _decoded(path)
    header = text.lstrip().partition("\n")[0]
    separator = max("\t,;" if path.suffix.lower() == ".tsv" else ",;\t", key=header.count)
    rows = None
    if separator == "\t" and not header.startswith('"'):
        with suppress(AutopeftError):
            rows = _rows(path, text, separator, csv.QUOTE_NONE)
    rows = rows or _rows(path, text, separator, csv.QUOTE_MINIMAL)
    return pd.DataFrame(rows[1:], columns=rows[0])


def _rows(path: Path, text: str, separator: str, quoting: Any) -> list[list[str]]:
    """All rows, the header first, those without any text left out; as many cells in each."""
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, strict=True)
    usual_limit = csv.field_size_limit(len(text) + 1)
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if rows and len(row) != len(rows[0]):
                raise AutopeftError(
                    f"line {reader.line_num} of '{path}' has {len(row)} cells, but the header has {len(rows[0])}; "
                    f"a text that holds {separator!r} or a line break must be in quotes."
                )
            rows.append(row)
    except csv.Error as error:
        raise AutopeftError(
            f"line {reader.line_num} of '{path}' is no valid CSV: {error}; "
            "a text that holds a quote must be in quotes, and the quote in it doubled."
        ) from error
    finally:
        csv.field_size_limit(usual_limit)
    if not rows:
        raise AutopeftError(f"'{path}' is empty.")
    return rows


def _json(path: Path) -> pd.DataFrame:
    """A list of objects, or one object on each line."""
    text = _decoded(path)
    if text.lstrip().startswith("["):
        objects = _parsed(path, text, 1)
    else:
        lines = enumerate(text.split("\n"), 1)
        objects = [_parsed(path, line, number) for number, line in lines if line.strip()]
    for row, each in enumerate(objects, 1):
        if not isinstance(each, dict):
            raise AutopeftError(
                f'row {row} of \'{path}\' is no object such as {{"text": …, "label": …}}, but {each!r}.'
            )
    return pd.DataFrame(objects, dtype=object)


def _parsed(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise AutopeftError(
            f"line {line + error.lineno - 1} of '{path}' is no valid JSON: {error.msg}; "
            "a file holds a list of objects, or one object on each line."
        ) from error


def _decoded(path: Path) -> str:
    held = path.read_bytes()
    try:
        return held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = error.object[: error.start].count(b"\n") + 1, error.object[error.start]
        raise AutopeftError(
            f"'{path}' is not UTF-8 text: line {line} holds the byte {byte:#04x}; save it as UTF-8."
        ) from error


_READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _separated,
    ".tsv": _separated,
    ".jsonl": _json,
    ".json": _json,
    ".parquet": pd.read_parquet,
}


def _read_folder(path: Path) -> dict[str, pd.DataFrame]:
    files: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        split = _SPLITS.get(file.stem.lower())
        if split is None or file.suffix.lower() not in _READERS:
            continue
        if split in files:
            raise AutopeftError(f"'{path}' holds two {split} files, {files[split].name} and {file.name}; keep one.")
        files[split] = file
    if not files:
        held = ", ".join(sorted(file.name for file in path.iterdir())[:6]) or "nothing"
        raise AutopeftError(f"'{path}' holds no train file such as train.csv; it holds {held}.")
    return {split: _read_file(file) for split, file in files.items()}


def _read_saved(path: Path) -> dict[str, pd.DataFrame]:
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(str(path))
    except Exception as error:
        raise AutopeftError(f"'{path}' cannot be read as a saved data set: {_reason(error)}") from error
    return _as_frames(saved if isinstance(saved, DatasetDict) else {"train": saved})


def _read_hub(data: str) -> dict[str, pd.DataFrame]:
    path = Path(data)
    kinds = {suffix[1:] for suffix in _READERS}
    hint = ""
    if path.parent.is_dir() and (
        close := get_close_matches(path.name, [file.name for file in path.parent.iterdir()], n=1)
    ):
        hint = f" Did you mean '{path.parent / close[0]}'?"
    if path.suffix.lower() in _READERS or data in kinds or data.startswith((".", "/", "~")) or data.count("/") > 1:
        raise AutopeftError(f"there is no file or folder '{data}'.{hint}")
    import datasets

    datasets.disable_progress_bars()
    try:
        return _as_frames(datasets.load_dataset(data))
    except Exception as error:
        raise AutopeftError(
            f"'{data}' is no file, no folder, and no data set that the hub gives: {_reason(error)}{hint}"
        ) from error


def _as_frames(splits: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Class labels as their names, and None where there is none (-1 in the test splits of benchmarks)."""
    frames = {}
    for name, dataset in splits.items():
        split = _SPLITS.get(name.lower())
        if split is None or not len(dataset):
            continue
        frame: pd.DataFrame = dataset.to_pandas().astype(object)
        for column, feature in dataset.features.items():
            names = dict(enumerate(getattr(feature, "names", None) or ()))
            if names:
                frame[column] = pd.Series([names.get(index) for index in frame[column]], dtype=object)
        frames[split] = frame
    return frames


def _reason(error: Exception) -> str:
    """The first line of an error, as the end of a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
