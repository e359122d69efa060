"""Reads a user's data into tables, one for each split: files, folders of files, saved `datasets` folders, hub names."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from autopeft.errors import AutopeftError

_SPLITS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation"}
_SPLITS |= {"dev": "validation", "test": "test"}


def read_splits(data: str) -> dict[str, pd.DataFrame]:
    """Tables by split: `train` always, `validation` and `test` where the data has them. Raises AutopeftError."""
    path = Path(data).expanduser()
    if path.is_file():
        return {"train": _read_file(path)}
    if path.is_dir():
        splits = _read_saved(path) if _is_saved(path) else _read_folder(path)
    else:
        splits = _read_hub(data)
    if "train" not in splits:
        raise AutopeftError(f"'{data}' has no training split; it has {', '.join(sorted(splits)) or 'none'}.")
    return splits


def _csv(path: Path) -> pd.DataFrame:
    separator = "\t" if path.suffix == ".tsv" else ","
    return pd.read_csv(path, sep=separator, keep_default_na=False, encoding="utf-8", dtype_backend="numpy_nullable")


_READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False, convert_dates=False),
    ".json": lambda path: pd.read_json(path, lines=path.read_text(encoding="utf-8").lstrip()[:1] == "{", dtype=False, convert_dates=False),
    ".parquet": pd.read_parquet,
}


def _read_file(path: Path) -> pd.DataFrame:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise AutopeftError(f"'{path}' is no kind of file that can be read; give one of {', '.join(_READERS)}.")
    if path.stat().st_size == 0:
        raise AutopeftError(f"'{path}' is empty.")
    try:
        frame = reader(path)
    except UnicodeDecodeError as error:
        raise AutopeftError(f"'{path}' is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}; save it as UTF-8.") from error
    except (ValueError, OSError) as error:
        raise AutopeftError(f"'{path}' cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}") from error
    if frame.empty:
        raise AutopeftError(f"'{path}' holds no rows{', only the header ' + ', '.join(map(str, frame.columns)) if len(frame.columns) else ''}.")
    return frame


def _read_folder(path: Path) -> dict[str, pd.DataFrame]:
    files = {
        _SPLITS[file.stem.lower()]: file
        for file in sorted(path.iterdir())
        if file.suffix.lower() in _READERS and file.stem.lower() in _SPLITS
    }
    if not files:
        held = ", ".join(sorted(file.name for file in path.iterdir())[:6]) or "nothing"
        raise AutopeftError(f"'{path}' holds no train file such as train.csv; it holds {held}.")
    return {split: _read_file(file) for split, file in files.items()}


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists()


def _read_saved(path: Path) -> dict[str, pd.DataFrame]:
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(str(path))
    splits = saved if isinstance(saved, DatasetDict) else {"train": saved}
    return _as_frames(splits)


def _read_hub(data: str) -> dict[str, pd.DataFrame]:
    path = Path(data)
    if path.suffix.lower() in _READERS or data.startswith((".", "/", "~")) or data.count("/") > 1:
        beside = sorted(file.name for file in path.parent.iterdir()) if path.parent.is_dir() else []
        close = get_close_matches(path.name, beside, n=1)
        hint = f" Did you mean '{path.parent / close[0]}'?" if close else ""
        raise AutopeftError(f"there is no file or folder '{data}'.{hint}")
    import datasets
    from datasets import load_dataset

    datasets.disable_progress_bars()
    try:
        return _as_frames(load_dataset(data))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AutopeftError(f"'{data}' is neither a file, nor a folder, nor a data set that can be had from the hub: {reason}") from error


def _as_frames(splits: Mapping[str, object]) -> dict[str, pd.DataFrame]:
    """Class labels as their names; unlabelled test splits of benchmarks (label -1) are left out."""
    frames = {}
    for name, dataset in splits.items():
        split = _SPLITS.get(name.lower())
        if split is None:
            continue
        frame: pd.DataFrame = dataset.to_pandas()  # type: ignore[attr-defined]
        for column, feature in dataset.features.items():  # type: ignore[attr-defined]
            names = getattr(feature, "names", None)
            if names and (frame[column] >= 0).all():
                frame[column] = [names[index] for index in frame[column]]
            elif names:
                frame = frame[0:0]
        if len(frame):
            frames[split] = frame
    return frames
