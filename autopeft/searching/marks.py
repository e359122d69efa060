"""What a search owns of the folder of its weights, whatever a database says: a tampered one may name any folder.

A search leaves a mark in its folder before it trains, which says the folder and when the search began. In a folder
without the mark, as earlier versions made it, it owns the weights of its own candidates.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC
from pathlib import Path

from autopeft.errors import AutopeftError
from autopeft.files import appearing
from autopeft.searching.whereabouts import STATE, has_folder_of_its_own, weights_folder, weights_of
from autopeft.trial import SearchRecord

MARK = ".autopeft-search"


def is_marked(record: SearchRecord, folder: Path) -> bool:
    """Whether the folder carries the mark of this very search."""
    try:
        return not folder.is_symlink() and (folder / MARK).read_text(encoding="utf-8") == _said(record)
    except (OSError, ValueError):
        return False


def has_mark(folder: Path) -> bool:
    """Whether the folder carries the mark of a search: no two share it."""
    return (folder / MARK).is_file()


def mark(record: SearchRecord, folder: Path) -> None:
    """Marks a folder that the search owns. A search that shares its folder with all of its name marks none."""
    if has_folder_of_its_own(record):
        try:
            with appearing(folder / MARK) as file:
                file.write_text(_said(record), encoding="utf-8")
        except OSError as error:
            raise AutopeftError(f"'{folder}' cannot be written: {error.strerror}.") from error


def require_own(record: SearchRecord, folder: Path) -> None:
    """Raises AutopeftError for a folder that holds anything of others."""
    if not has_folder_of_its_own(record) or not folder.exists() or is_marked(record, folder):
        return
    own = {*own_weights(record, folder)}
    if not folder.is_dir() or any(
        each not in own and not each.name.startswith(f"{MARK}.") for each in folder.iterdir()
    ):
        raise AutopeftError(
            f"'{folder}' is not the folder of the weights of search '{record.name}', though its record says so: it "
            f"holds other things, and not the search's mark. Nothing is written there; give another place by --folder."
        )


def own_weights(record: SearchRecord, folder: Path) -> Iterator[Path]:
    """Folders of weights that are the search's own by their candidates; none where another search left its mark."""
    if (folder / MARK).exists() and not is_marked(record, folder):
        return
    places = {place: trial for trial in record.trials if (place := weights_of(folder, trial.number)).is_dir()}
    if not places:
        return
    from autopeft.artifacts import read_description  # It imports torch, which the service does without.

    for place, trial in places.items():
        with suppress(AutopeftError):
            _, candidate = read_description(place)
            if candidate == trial.candidate:
                yield place


def clear_leftovers(folder: Path, name: str, *, whole: bool) -> None:
    """Takes away what killed workers left half written of the weights `name` and of the state of their training, and
    with `whole` these themselves, in a marked folder only: who is trained anew may be stopped before it has any.
    """
    if has_mark(folder):
        there = (folder / name, folder / f"{name}{STATE}") if whole else ()
        for left in (*there, *folder.glob(f"{name}.*writing")):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def take_away_marked(folder: Path) -> None:
    """Removes a marked folder, the mark last, so that a killed call can be called again."""
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        elif each.name != MARK:
            each.unlink()
    (folder / MARK).unlink()
    folder.rmdir()


def _said(record: SearchRecord) -> str:
    return f"{weights_folder(record)} {record.created.astimezone(UTC).isoformat()}\n"
