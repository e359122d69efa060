"""Deletes a search: what the database remembers of it, its weights, and prepared data that no other search uses.

First the record says that it is being deleted, so that nothing is recommended whose weights are on their way out; the
rows go last. Whatever a killed call left is taken away by the next.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from autopeft.errors import AutopeftError
from autopeft.files import bytes_in
from autopeft.plan import Resources
from autopeft.searching.marks import is_marked, own_weights, take_away_marked
from autopeft.searching.preparing.shared import take_away
from autopeft.searching.whereabouts import DELETING, has_folder_of_its_own, run_folders, weights_folder
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
            for place in _places(record, folder):
                around = place / weights_folder(record)
                weights = [*_weights(record, place)]
                for each in weights:
                    freed[each] = bytes_in(each)
                    (take_away_marked if each == around else shutil.rmtree)(each)
                if weights or has_folder_of_its_own(record):
                    with suppress(OSError):
                        around.rmdir()
                freed |= take_away(place / "data", weights_folder(record))
        except OSError as error:
            raise AutopeftError(
                f"search '{name}' is deleted by half: '{error.filename}' cannot be removed ({error.strerror}); call "
                f"`autopeft delete {name}` again when it can."
            ) from error
        repository.delete(name)
    return Deleted(len(record.trials), tuple(freed), sum(freed.values()))


def weights_of(name: str, storage: str = Resources.storage, folder: str | Path | None = None) -> tuple[Path, ...]:
    """The folders of weights that `delete` would take away. Raises AutopeftError."""
    with Repository(storage) as repository:
        record = repository.load(name)
    return tuple(weights for place in _places(record, folder) for weights in _weights(record, place))


def _places(record: SearchRecord, folder: str | Path | None) -> tuple[Path, ...]:
    return run_folders(record, None) if folder is None else (Path(folder).absolute(),)


def _weights(record: SearchRecord, place: Path) -> Iterator[Path]:
    """The folders in a run folder that hold weights of this search and of nobody else."""
    folder = place / weights_folder(record)
    if is_marked(record, folder):
        yield folder
    else:
        yield from own_weights(record, folder)
