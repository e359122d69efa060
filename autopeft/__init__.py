"""Finds the parameter-efficient fine-tuning methods that suit a model, a dataset and a budget.

Public names are imported when they are first used, so that `import autopeft` and `autopeft --help` answer at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autopeft.artifacts import TrainedModel as TrainedModel
    from autopeft.artifacts import load as load
    from autopeft.artifacts.registering import register as register
    from autopeft.costs.api import measure as measure
    from autopeft.costs.api import predict as predict
    from autopeft.costs.estimate import Estimate as Estimate
    from autopeft.costs.estimate import estimate as estimate
    from autopeft.errors import AutopeftError as AutopeftError
    from autopeft.methods.attached import attach as attach
    from autopeft.methods.registry import method as method
    from autopeft.plan import Budget as Budget
    from autopeft.plan import Plan as Plan
    from autopeft.plan import Resources as Resources
    from autopeft.searching.deleting import delete as delete
    from autopeft.searching.search import Search as Search
    from autopeft.searching.search import open_search
    from autopeft.searching.search import resume as resume
    from autopeft.searching.search import search as search
    from autopeft.trial import Costs as Costs
    from autopeft.trial import SearchRecord as SearchRecord
    from autopeft.trial import Trial as Trial

    open = open_search

_WHERE = {
    "AutopeftError": "autopeft.errors:AutopeftError",
    "Budget": "autopeft.plan:Budget",
    "Costs": "autopeft.trial:Costs",
    "Estimate": "autopeft.costs.estimate:Estimate",
    "Plan": "autopeft.plan:Plan",
    "Resources": "autopeft.plan:Resources",
    "Search": "autopeft.searching.search:Search",
    "SearchRecord": "autopeft.trial:SearchRecord",
    "TrainedModel": "autopeft.artifacts:TrainedModel",
    "Trial": "autopeft.trial:Trial",
    "attach": "autopeft.methods.attached:attach",
    "delete": "autopeft.searching.deleting:delete",
    "estimate": "autopeft.costs.estimate:estimate",
    "load": "autopeft.artifacts:load",
    "measure": "autopeft.costs.api:measure",
    "method": "autopeft.methods.registry:method",
    "open": "autopeft.searching.search:open_search",
    "predict": "autopeft.costs.api:predict",
    "register": "autopeft.artifacts.registering:register",
    "resume": "autopeft.searching.search:resume",
    "search": "autopeft.searching.search:search",
}
"""Public name -> module and, after the colon, the name there."""

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'autopeft' has no attribute '{name}'")
    module, attribute = _WHERE[name].split(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
