"""What there is to choose from beside methods: tasks and named spaces, in a few words each."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autopeft.reports.kept import kept

_TASKS = "tasks"
_SHOWN = 3
"""Usual names of columns that are told."""


@dataclass(frozen=True)
class TaskOverview:
    """A task type."""

    name: str
    summary: str
    reads: Mapping[str, tuple[str, ...]]
    """Roles, each with the first usual names of such columns."""
    metrics: tuple[str, ...]
    """By name; the first is the default, as a rule."""


@dataclass(frozen=True)
class SpaceOverview:
    """A named search space."""

    name: str
    summary: str
    methods: tuple[str, ...]
    hybrids: tuple[str, ...]


def task_overviews(importing: Callable[[], object] = lambda: None) -> tuple[TaskOverview, ...]:
    """Of all tasks. `importing` is called where their code has to be asked first, which takes seconds."""

    def make(_: tuple[str, ...]) -> Mapping[str, Mapping[str, Any]]:
        importing()
        from autopeft.tasks.named import tasks

        found = [
            TaskOverview(
                name,
                (task.__doc__ or "").strip().splitlines()[0],
                {role: tuple(each.usual[:_SHOWN]) for role, each in task.roles.items()},
                tuple(metric.name for metric in task.every_metric()),
            )
            for name, task in tasks().items()
        ]
        return {_TASKS: {each.name: asdict(each) for each in found}}

    return tuple(_read(facts) for facts in kept(_TASKS, (_TASKS,), make)[_TASKS].values())


def _read(facts: Mapping[str, Any]) -> TaskOverview:
    reads = {role: tuple(usual) for role, usual in facts["reads"].items()}
    return TaskOverview(facts["name"], facts["summary"], reads, tuple(facts["metrics"]))


def space_overviews() -> tuple[SpaceOverview, ...]:
    """Of all named spaces."""
    from autopeft.space.space import declared_space, named_spaces

    loaded = [declared_space(name) for name in named_spaces()]
    return tuple(SpaceOverview(each.name, each.summary, each.methods, tuple(each.hybrids)) for each in loaded)
