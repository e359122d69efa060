"""Where the files of a search lie, also after they were moved.

In a run folder every search has a folder of its own for trained weights, named by the search and a random id, because
two databases may know two searches of one name. The record holds that name, places of weights relative to the run
folder, and the run folders that it had. Records that are older hold absolute places, in a folder named by the search.
"""

import re
import uuid
from collections.abc import Container, Mapping
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.plan import Plan, Resources
from autopeft.tasks.own import rooted as with_root
from autopeft.trial import SearchRecord, Trial

DELETING = "deleting"
"""The name of a fact: files of the search may be gone, because somebody began to delete it."""
STATE = ".state"
"""How files of trainings end that are kept to go on from."""
LACKING = "without_weights"
"""A fact of a search that travels: the numbers of trials whose weights are not where it came from."""
NAME = re.compile(r"\w[\w.-]*")
"""Names of searches, which are names of folders, too."""
_NAME_AND_ID = re.compile(rf"{NAME.pattern}-[0-9a-f]{{12}}")
_WEIGHTS, _RUN_FOLDERS = "weights_folder", "run_folders"
_MOVABLE = ("model", "data", "space")


def places_of_new(name: str, folder: Path) -> Mapping[str, Any]:
    """For the facts of a search that begins: a folder of its own for weights, inside the run folder."""
    return {_WEIGHTS: f"{name}-{uuid.uuid4().hex[:12]}", _RUN_FOLDERS: [str(folder)]}


def free_name(stem: str, taken: Container[str]) -> str:
    """The stem, or the first of `stem-2`, `stem-3` and so on that is not taken."""
    numbered = (f"{stem}-{number}" for number in count(2))
    return next(name for name in chain([stem], numbered) if name not in taken)


def weights_of(folder: Path, number: int) -> Path:
    """Where a trial's weights lie in the folder of its search's."""
    return folder / f"{number:04d}"


def state_of(folder: Path, number: int) -> Path:
    """Where a trial's training is kept while it is not over, in the same folder."""
    return folder / f"{number:04d}{STATE}"


def weights_folder(record: SearchRecord) -> str:
    """The name of the folder of its weights, inside the run folder. Raises AutopeftError for what leads elsewhere."""
    name = record.facts.get(_WEIGHTS, record.name)
    form = _NAME_AND_ID if has_folder_of_its_own(record) else NAME
    if not isinstance(name, str) or not form.fullmatch(name):
        raise AutopeftError(f"the record of search '{record.name}' is damaged: it names no folder of weights.")
    return name


def has_folder_of_its_own(record: SearchRecord) -> bool:
    """Whether no other search can have weights in the same folder."""
    return _WEIGHTS in record.facts


def run_folder(record: SearchRecord, given: str | Path | None) -> Path:
    """Where a sitting keeps its files: where it is told to, else where the last one did, as long as that is there."""
    if given is not None:
        return Path(given).absolute()
    return next((folder for folder in _remembered(record) if folder.is_dir()), Path(Resources.folder).absolute())


def sitting_in(record: SearchRecord, folder: Path) -> SearchRecord:
    """The record that remembers this run folder before those that it had."""
    folders = [str(folder), *(str(each) for each in _remembered(record) if each != folder)]
    return replace(record, facts={**record.facts, _RUN_FOLDERS: folders})


def run_folders(record: SearchRecord, given: str | Path | None) -> tuple[Path, ...]:
    """Where to look for files, the most likely place first."""
    first = [] if given is None else [Path(given).absolute()]
    return tuple(dict.fromkeys([*first, *_remembered(record), Path(Resources.folder).absolute()]))


def require_kept(record: SearchRecord) -> None:
    """Raises AutopeftError for a search that somebody began to delete."""
    if record.facts.get(DELETING):
        raise AutopeftError(
            f"search '{record.name}' is deleted by half; `autopeft delete {record.name}` does the rest."
        )


def located(record: SearchRecord, given: str | Path | None) -> SearchRecord:
    """The record with the places of weights as they are found now; where they are gone, as they should be."""
    folders = run_folders(record, given)
    return replace(record, trials=tuple(_located(trial, folders) for trial in record.trials))


def has_weights(trial: Trial) -> bool:
    """Whether the trained weights of a trial with a located place are there."""
    return bool(trial.artifact) and Path(trial.artifact).is_dir()


def with_moved(record: SearchRecord, moved: Mapping[str, str | None]) -> SearchRecord:
    """The record with the new places of what its plan names, where they are given. Raises AutopeftError where something
    is gone, and no new place is given.
    """
    given: dict[str, Any] = {name: place for name, place in moved.items() if place}
    plan = rooted(replace(record.plan, **given))
    for name in _MOVABLE:
        require_there(name, getattr(plan, name), record.name)
    return replace(record, plan=plan)


def require_there(what: str, place: str, search: str) -> None:
    """Raises AutopeftError where a model, data or a space was a local path, and is gone."""
    if Path(place).is_absolute() and not Path(place).exists():
        raise AutopeftError(
            f"the {what} of search '{search}' was '{place}', which is gone; put it back, or say by --{what} where it "
            "is now."
        )


def rooted(plan: Plan) -> Plan:
    """The plan with local paths made absolute, so that it means the same from anywhere."""
    places: dict[str, Any] = {name: absolute(getattr(plan, name)) for name in _MOVABLE}
    return replace(plan, **places, task=with_root(plan.task), metric=with_root(plan.metric))


def absolute(place: str) -> str:
    """A local path from the root, so that it means the same from anywhere; the name of something else as it is."""
    try:
        path = Path(place).expanduser()
        return str(path.absolute()) if path.exists() else place
    except (OSError, RuntimeError):  # No system has such a path, or nobody such a home: it may be a hub name.
        return place


def _remembered(record: SearchRecord) -> tuple[Path, ...]:
    kept = record.facts.get(_RUN_FOLDERS)
    if isinstance(kept, list):
        return tuple(Path(folder) for folder in kept if isinstance(folder, str))
    artifacts = [Path(trial.outcome.artifact) for trial in record.trials if trial.outcome and trial.outcome.artifact]
    return tuple(dict.fromkeys(artifact.parent.parent for artifact in artifacts if artifact.is_absolute()))


def _located(trial: Trial, folders: tuple[Path, ...]) -> Trial:
    if not trial.artifact:
        return trial
    inside = Path(*Path(trial.artifact).parts[-2:])
    found = str(next((folder for folder in folders if (folder / inside).is_dir()), folders[0]) / inside)
    if trial.outcome is not None and trial.outcome.artifact:
        return replace(trial, outcome=replace(trial.outcome, artifact=found))
    return replace(trial, curve=(*trial.curve[:-1], replace(trial.curve[-1], artifact=found)))
