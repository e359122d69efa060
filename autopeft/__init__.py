"""Finds the parameter-efficient fine-tuning (PEFT) methods that suit a model, a dataset and a budget.

    >>> import autopeft
    >>> search = autopeft.search("bert-base-uncased", "train.csv", budget=autopeft.Budget(memory="8GiB"), trials=60)
    >>> search.select(memory="6GiB").save("winner/")
    >>> autopeft.load("winner/").predict("a stirring, funny film")

Searches
    search      search, and return when it is over
    start       search in a process of its own, and return at once: a `Running`
    resume      go on with an interrupted search, or give a finished one more trials or time
    open        a search by its name, running or finished: a `Search`
    delete      delete a search with its weights
    Search      what was found: `front`, `trials`, `select`, `export`, `confirm`, `plot`, `to_pandas`
    Running     a search in the background: `wait`, `stop`, and what it has found so far
    Trial       one candidate of a search with its costs and scores; `save` writes it to a folder
    Plan, Budget, Resources     what to search, what it may cost, and where it runs

Models
    load            backbone and trained method from a folder: a `TrainedModel`
    TrainedModel    `predict`, `generate`, `scores`
    register        trust code of your own, such as a method or a task

Methods
    method      a method by its name and settings
    attach      put methods on any model of transformers, train them, take them off again
    predict     what training a method would cost, without training and without weights: `Costs`
    measure     the same, read off one real step
    estimate    what every method of a space would cost, and how large it may be: `Estimate`
    Costs, Estimate     memory and stored size in bytes, parameters, floating-point operations

Lists
    list_searches, list_methods, list_spaces, list_tasks

Whatever is wrong with what was asked is an `AutopeftError`, whose text is the whole answer. `SearchRecord` is all that
a database remembers of a search. Public names are imported when they are first used, so that `import autopeft` answers
at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autopeft.artifacts import TrainedModel, load
    from autopeft.artifacts.registering import register
    from autopeft.costs.api import measure, predict
    from autopeft.costs.told import Estimate
    from autopeft.errors import AutopeftError
    from autopeft.methods.attached import attach
    from autopeft.methods.registry import method
    from autopeft.plan import Budget, Plan, Resources
    from autopeft.python.background import Running, start
    from autopeft.python.estimating import estimate
    from autopeft.python.listing import list_methods, list_spaces, list_tasks
    from autopeft.python.search import Search, list_searches, resume, search
    from autopeft.python.search import open_search as open
    from autopeft.searching.deleting import delete
    from autopeft.trial import Costs, SearchRecord, Trial

    __version__: str

__all__ = [
    "AutopeftError",
    "Budget",
    "Costs",
    "Estimate",
    "Plan",
    "Resources",
    "Running",
    "Search",
    "SearchRecord",
    "TrainedModel",
    "Trial",
    "attach",
    "delete",
    "estimate",
    "list_methods",
    "list_searches",
    "list_spaces",
    "list_tasks",
    "load",
    "measure",
    "method",
    "open",
    "predict",
    "register",
    "resume",
    "search",
    "start",
]

_WHERE = {
    "AutopeftError": "autopeft.errors:AutopeftError",
    "Budget": "autopeft.plan:Budget",
    "Costs": "autopeft.trial:Costs",
    "Estimate": "autopeft.costs.told:Estimate",
    "Plan": "autopeft.plan:Plan",
    "Resources": "autopeft.plan:Resources",
    "Running": "autopeft.python.background:Running",
    "Search": "autopeft.python.search:Search",
    "SearchRecord": "autopeft.trial:SearchRecord",
    "TrainedModel": "autopeft.artifacts:TrainedModel",
    "Trial": "autopeft.trial:Trial",
    "attach": "autopeft.methods.attached:attach",
    "delete": "autopeft.searching.deleting:delete",
    "estimate": "autopeft.python.estimating:estimate",
    "list_methods": "autopeft.python.listing:list_methods",
    "list_searches": "autopeft.python.search:list_searches",
    "list_spaces": "autopeft.python.listing:list_spaces",
    "list_tasks": "autopeft.python.listing:list_tasks",
    "load": "autopeft.artifacts:load",
    "measure": "autopeft.costs.api:measure",
    "method": "autopeft.methods.registry:method",
    "open": "autopeft.python.search:open_search",
    "predict": "autopeft.costs.api:predict",
    "register": "autopeft.artifacts.registering:register",
    "resume": "autopeft.python.search:resume",
    "search": "autopeft.python.search:search",
    "start": "autopeft.python.background:start",
}
"""Public name -> module and, after the colon, the name there."""


if not TYPE_CHECKING:  # To a type checker every name would be one of the package's, else.

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return import_module("importlib.metadata").version("autopeft")
        if name not in _WHERE:
            raise AttributeError(f"module 'autopeft' has no attribute '{name}'")
        module, attribute = _WHERE[name].split(":")
        return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    """What there is for people; nothing of how it is found."""
    return [*__all__, "__doc__", "__version__"]
