"""Slips in a plan that can be told before anything is imported that takes seconds: misspelt names, missing files."""

from itertools import chain

from autopeft.backbone.place import require_model
from autopeft.data.place import require_dataset
from autopeft.errors import unknown
from autopeft.plan import Plan
from autopeft.searching.own_code import require_code
from autopeft.space.space import AUTO, MIXTURE, declared_space, named_spaces
from autopeft.tasks.names import task_names
from autopeft.tasks.own import is_own


def require_places(plan: Plan) -> None:
    """Raises AutopeftError where a local path of the plan leads nowhere; a name may be one that a hub knows."""
    require_model(plan.model)
    require_dataset(plan.data)
    if plan.space != AUTO:
        declared_space(plan.space)


def require_names(plan: Plan) -> None:
    """Raises AutopeftError for a task, a metric of one's own or a method that there is not."""
    require_code(plan)
    names = task_names()
    if not is_own(plan.task) and plan.task not in ("auto", *names, *chain(*names.values())):
        raise unknown("task", plan.task, ("auto", *names))
    if plan.space != AUTO:
        declared_space(plan.space).only(plan.methods)
    else:  # Which space it will be is known with the task.
        known = [declared_space(name) for name in named_spaces()]
        held = {name for space in known for name in (*space.methods, *space.hybrids)}
        if wrong := [name for name in plan.methods if name not in held and name != MIXTURE]:
            raise unknown("method", wrong[0], sorted(held))
