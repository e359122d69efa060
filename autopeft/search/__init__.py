"""A search, from a plan to a front. It can be called: `autopeft.search(...)` is `autopeft.search.search.search(...)`.

The package and the function that users call share one name; whichever is imported first, both uses work.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autopeft.search.search import Search


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> "Search":
        from autopeft.search.search import search

        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
