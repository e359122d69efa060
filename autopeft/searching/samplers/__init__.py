"""How candidates are proposed. A sampler is one file here, which makes it by `sampler(ground)`; adding one edits no
list. What samplers are made of is in `parts/`.

This module imports no sampler before it is asked for, because they bring Optuna.
"""

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from autopeft.searching.samplers.parts.interface import Ground, Sampler


def sampler_named(name: str, ground: "Ground") -> "Sampler":
    """The sampler of this name, which the plan has checked, for a search."""
    return cast("Sampler", import_module(f"autopeft.searching.samplers.{name}").sampler(ground))
