"""Slips in what is asked of an estimate that can be told before anything is imported that takes seconds."""

from autopeft.backbone.place import require_model
from autopeft.sizes import parse_memory
from autopeft.space.space import declared_space


def require_plausible(model: str, space: str, memory: str | int | None = None) -> None:
    """Raises AutopeftError for a local path that leads nowhere, a space that there is not, and a size that is none."""
    if memory is not None:
        parse_memory(memory)
    declared_space(space)
    require_model(model)
