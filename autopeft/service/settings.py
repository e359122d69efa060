"""How a service was started. Its operator decides all of this; nothing that comes over the network changes any."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from autopeft.plan import Resources
from autopeft.tasks.own import defined_as, is_own, rooted

_OF_CODE = {"class": ("task",), "function": ("metric",), "": ("task", "metric")}
"""What code may be, by how it is defined."""


@dataclass(frozen=True)
class Settings:
    """What a service may read, run and keep."""

    storage: str = Resources.storage
    """The database of searches, which is that of the queue, too."""
    folder: Path = Path(Resources.folder)
    """The run folder; uploads and logs of searches lie in it, too."""
    data_roots: tuple[Path, ...] = ()
    """Folders in which data is read."""
    model_roots: tuple[Path, ...] = ()
    """Folders in which models are read."""
    hub: bool = False
    """Whether models and data may be named that a hub has."""
    trusted: tuple[str, ...] = ()
    """Code that plans may name: tasks and metrics such as my_task.py:MyTask, and folders of cards."""
    trust_remote_code: bool = False
    """Whether code may run that comes with a model."""
    at_once: int = 1
    """Searches that run at a time on this host."""
    workers: int | None = None
    """Trials that each of them trains at a time."""
    address: str | None = None
    """Of the Ray cluster on which they are trained; each starts its own where none is given."""
    upload_limit: int = 2**30
    """Bytes of an uploaded file."""

    @property
    def uploads(self) -> Path:
        return self.folder.absolute() / "uploads"

    @property
    def logs(self) -> Path:
        return self.folder.absolute() / "logs"

    def log_of(self, name: str) -> Path:
        """What the processes of a search print."""
        return self.logs / f"{name}.log"

    @cached_property
    def trusted_code(self) -> dict[str, str]:
        """What plans may write, and what they mean by it."""
        return {each: rooted(each) if is_own(each) else str(Path(each).absolute()) for each in self.trusted}

    def trusted_as(self, what: str) -> list[str]:
        """What plans may write as their `task`, `metric` or `space`. Raises AutopeftError for code that is not there;
        nothing of it is executed.
        """
        return [each for each in self.trusted if what in self._kinds[each]]

    @cached_property
    def _kinds(self) -> dict[str, tuple[str, ...]]:
        return {each: _OF_CODE[defined_as(each, "code")] if is_own(each) else ("space",) for each in self.trusted}

    @property
    def resources(self) -> dict[str, object]:
        """For the processes that run searches."""
        where = {"storage": self.storage, "folder": str(self.folder.absolute())}
        return {**where, "workers": self.workers, "address": self.address}
