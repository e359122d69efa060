"""Which fields of a plan name code, or folders of cards: only their operator may let a service run such."""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from autopeft.plan import AUTO, Plan
from autopeft.space.space import named_spaces
from autopeft.tasks.own import is_own

MAY_BE_CODE = ("task", "metric", "space")


def code_of(plan: Plan) -> Mapping[str, str]:
    """What of a plan names code, or cards, that are not autopeft's."""
    given = {what: str(getattr(plan, what)) for what in MAY_BE_CODE}
    shipped = (AUTO, *named_spaces())
    return {what: each for what, each in given.items() if (each not in shipped if what == "space" else is_own(each))}


def trusted_of(plan: Plan, code: Container[str], kinds: Iterable[str]) -> dict[str, Any]:
    """Which of these fields name code that is trusted, so that whoever goes on with a search says it again."""
    return {what: getattr(plan, what) for what in kinds if getattr(plan, what) in code}
