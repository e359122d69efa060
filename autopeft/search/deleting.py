"""Deletes a search: what the database remembers of it, its weights, and prepared data that no other search uses.

First the record says that it is being deleted, so that nothing is recommended whose weights are on their way out; the
rows go last. Whatever a killed call left is taken away by the next.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from autopeft.artifacts import read_description
from autopeft.errors import AutopeftError
from autopeft.files import bytes_in
from autopeft.plan import Resources
from autopeft.search.prepared_data import take_away
from autopeft.search.whereabouts import DELETING, has_folder_of_its_own, run_folders, weights_folder
from autopeft.storage.repository import Repository
from autopeft.trial import SearchRecord


@dataclass(frozen=True)
class Deleted:
    """What was taken away."""

    trials: int
    folders: tuple[Path, ...]
    """Weights and prepared data that are gone."""
    freed: int
    """Bytes that they held."""


def delete(name: str, storage: str = Resources.storage, folder: str | Path | None = None) -> Deleted:
    """Deletes a search; what was exported stays. `folder` is the run folder where it does not lie where it was; then
    nothing is taken away elsewhere.

    Raises AutopeftError; also for a search that is running.
    """
    with Repository(storage) as repository:
        repository.claim(name)
        record = repository.load(name)
        repository.update(name, facts={**record.facts, DELETING: True})
        freed: dict[Path, int] = {}
        try:
            for place in run_folders(record, None) if folder is None else [Path(folder).absolute()]:
                for weights in _weights(record, place):
                    freed[weights] = bytes_in(weights)
                    shutil.rmtree(weights)
                with suppress(OSError):
                    (place / weights_folder(record)).rmdir()
                freed |= take_away(place / "data", weights_folder(record))
        except OSError as error:
            raise AutopeftError(
                f"search '{name}' is deleted by half: '{error.filename}' cannot be removed ({error.strerror}); call "
                f"`autopeft delete {name}` again when it can."
            ) from error
        repository.delete(name)
    return Deleted(len(record.trials), tuple(freed), sum(freed.values()))


def _weights(record: SearchRecord, place: Path) -> Iterator[Path]:
    """The folders of a search's weights inside a run folder. An older search shares one with all of its name, and owns
    there what holds its own candidates.
    """
    folder = place / weights_folder(record)
    if has_folder_of_its_own(record):
        if folder.is_dir():
            yield folder
        return
    for trial in record.trials:
        with suppress(AutopeftError):
            _, candidate = read_description(folder / f"{trial.number:04d}")
            if candidate == trial.candidate:
                yield folder / f"{trial.number:04d}"
