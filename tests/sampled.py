"""Grids of which some places are tried every time; `make grids` tries all of them."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest


def sampled(*factors: Iterable[Any], every: int = 2) -> list[Any]:
    """Parameters for all combinations. One in so many is no `grid`: where the places of its values add up to a
    multiple of `every`, so that values meet in turn. A factor of tuples gives several arguments at once.
    """
    return [
        pytest.param(*_flat(values), marks=() if sum(places) % every == 0 else pytest.mark.grid)
        for each in product(*map(enumerate, factors))
        for places, values in [zip(*each, strict=True)]
    ]


def _flat(values: Iterable[Any]) -> list[Any]:
    return [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
