"""Code of the user's own that a search is made of, its task and its metric: named by him, and then executed.

A database may come from a stranger, so what a record names is known already, or named once more.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.plan import Plan
from autopeft.tasks.own import bring, fingerprint, is_own, known, name_in, remember, require_own, shown
from autopeft.tasks.own_slips import slips_told
from autopeft.trial import SearchRecord

OWN = ("task", "metric")
"""What of a plan may be code."""
FINGERPRINTS = "own_code"
"""The name of a fact: what tells such code apart, by what of the plan it is."""


def named(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given for a plan, with references in the place of classes and functions. Raises AutopeftError."""
    return {name: _reference(name, value) if name in OWN else value for name, value in given.items()}


def require_code(plan: Plan) -> None:
    """Raises AutopeftError for a reference that leads nowhere; executes nothing."""
    for what in OWN:
        if is_own(reference := getattr(plan, what)):
            require_own(reference, what)


def require_named(record: SearchRecord, given: Mapping[str, str | None]) -> None:
    """Raises AutopeftError where a record names code that its user does not, and where he names another."""
    for what, again in given.items():
        reference = getattr(record.plan, what)
        if again is None:
            if is_own(reference):
                known(reference, what)
        elif is_own(again) and is_own(reference) and name_in(again) == name_in(reference):
            require_own(again, what)
        elif again != reference:
            raise AutopeftError(
                f"search '{record.name}' has the {what} {brief(name_in(reference), 100)}; for another one, such as "
                f"{brief(again, 100)}, begin another search."
            )


def execute(given: Mapping[str, str | None]) -> None:
    """Executes the code that the user names. Raises AutopeftError for code that fails, or is no task or metric."""
    from autopeft.tasks.named import own_task
    from autopeft.tasks.own_metric import own_metric

    for what, check in (("task", own_task), ("metric", own_metric)):
        if (reference := given.get(what)) is not None and is_own(reference):
            check(bring(reference, what))


def fingerprints(plan: Plan) -> dict[str, str]:
    """What tells a plan's code apart, which was executed, by what of the plan it is; empty where there is no source."""
    return {what: fingerprint(known(where, what)) for what in OWN if is_own(where := getattr(plan, what))}


def require_same_code(record: SearchRecord, say: Callable[[str], None]) -> None:
    """Raises AutopeftError where code, which was executed, is not what the search began with: its scores would be
    others. Says so where that cannot be told.
    """
    before = record.facts.get(FINGERPRINTS) or {}
    for what, now in fingerprints(record.plan).items():
        if not now or not before.get(what):
            say(f"going on without knowing whether the {what} is still the code that the search began with")
        elif now != before[what]:
            raise AutopeftError(
                f"the {what} '{shown(known(getattr(record.plan, what), what))}' is not the one that search "
                f"'{record.name}' began with: its source changed, and scores of both cannot be compared; put it back "
                "as it was, or begin another search."
            )


def own_slips_told(plan: Plan) -> AbstractContextManager[None]:
    """Answers slips of a plan's own task, which was executed, within the block."""
    return slips_told(known(plan.task, "task") if is_own(plan.task) else None)


def _reference(what: str, value: Any) -> Any:
    """The reference of a class or function; a text as it is."""
    if value is None or isinstance(value, str):
        return value
    from autopeft.tasks.named import own_task
    from autopeft.tasks.own_metric import own_metric

    (own_task if what == "task" else own_metric)(value)
    return remember(value)
