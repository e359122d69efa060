"""Slips in a plan that can be told before anything is imported that takes seconds: misspelt names, missing files."""

from autopeft.backbone.place import require_model
from autopeft.data.place import require_dataset
from autopeft.errors import unknown
from autopeft.plan import Plan
from autopeft.space.space import declared_space
from autopeft.tasks.names import task_names


def require_places(plan: Plan) -> None:
    """Raises AutopeftError where a local path of the plan leads nowhere; a name may be one that a hub knows."""
    require_model(plan.model)
    require_dataset(plan.data)
    declared_space(plan.space)


def require_names(plan: Plan) -> None:
    """Raises AutopeftError for a task or a method that there is not."""
    if plan.task not in (known := ("auto", *task_names())):
        raise unknown("task", plan.task, known)
    declared_space(plan.space).only(plan.methods)
