"""Commands as answers tell them: whole, so that they can be pasted, but for what is secret of a database's URL."""

import shlex
from typing import Any

from autopeft.plan import Plan, Resources
from autopeft.searching.own_code import OWN
from autopeft.storage.urls import shown
from autopeft.tasks.own import is_own


def command(verb: str, *words: str, **options: Any) -> str:
    """A command with these options; one that is True is given without a value."""
    said = ["autopeft", verb, *words]
    for key, value in options.items():
        said.append(f"--{key.replace('_', '-')}")
        if value is not True:
            said.append(shown(value) if key == "storage" else str(value))
    return shlex.join(said)


def hint(storage: str) -> str:
    """What to do with a command that does not tell the whole URL of its database; empty where it does."""
    return "" if shown(storage) == storage else "\nPut back what *** hides in --storage."


def places(storage: str, folder: object = None) -> dict[str, Any]:
    """The options that say where a search is found, where that is not the usual place."""
    usual = storage == Resources.storage
    return ({"folder": folder} if folder else {}) | ({} if usual else {"storage": storage})


def trusting(plan: Plan) -> dict[str, Any]:
    """What has to be said once more of the code that a plan names."""
    own = {name: getattr(plan, name) for name in OWN if is_own(getattr(plan, name))}
    return own | ({"trust_remote_code": True} if plan.trust_remote_code else {})
