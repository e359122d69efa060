"""What a search in a space begins with, as the space declares it: what people would take by hand, in their order.

An entry names a method or hybrid, and what differs from its defaults by the names that draws have
(`lora.learning_rate`, `training.batch_size`); `from` and `below` say for backbones of how many parameters it is meant.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief
from autopeft.sizes import parse_count
from autopeft.space.candidate import Value
from autopeft.space.parameters import Parameter, frozen, label

if TYPE_CHECKING:
    from autopeft.space.space import Space

_BOUNDS = ("from", "below")


@dataclass(frozen=True)
class Beginning:
    """One candidate to begin with."""

    draws: Mapping[str, Any]
    """What makes it, where it differs from defaults."""
    least: int = 0
    below: float = math.inf
    """Parameters of the backbones for which it is meant: `least` or more, and fewer than `below`."""

    def is_for(self, parameters: int) -> bool:
        return self.least <= parameters < self.below


def read_beginning(space: "Space", plain: Any, where: str) -> Beginning:
    """Raises AutopeftError that begins with `where`."""
    kinds = (*space.methods, *space.hybrids)
    if not isinstance(plain, Mapping) or "method" not in plain:
        raise AutopeftError(f"{where}: {brief(plain)} is no entry; write such as {{method: {kinds[0]}}}.")
    draws = {str(name): label(frozen(value)) for name, value in plain.items() if name not in _BOUNDS}
    if draws["method"] not in kinds:
        raise AutopeftError(f"{where}: {unknown('method of this space', str(draws['method']), kinds)}")
    drawn = _Checked(draws, where)
    space.draw(drawn)
    if over := [name for name in draws if name not in drawn.known]:
        raise AutopeftError(f"{where}: {unknown('setting', over[0], sorted(drawn.known - {'method'}))}")
    try:
        least, below = (parse_count(plain[name]) if name in plain else None for name in _BOUNDS)
    except AutopeftError as error:
        raise AutopeftError(f"{where}: {error}") from error
    return Beginning(draws, least or 0, math.inf if below is None else below)


class _Checked:
    """Draws what an entry says, and defaults otherwise; remembers all that is drawn."""

    def __init__(self, draws: Mapping[str, Any], where: str) -> None:
        self._draws = draws
        self._where = where
        self.known: set[str] = set()

    def draw(self, name: str, parameter: Parameter) -> Value:
        self.known.add(name)
        if name not in self._draws:
            return parameter.default
        given = self._draws[name]
        if given in parameter.labels():
            return parameter.value_of(given)
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        if parameter.low is None or not is_number or not parameter.holds(given):
            raise AutopeftError(f"{self._where}: {name} cannot be {brief(given)}; it may be {parameter}.")
        return parameter.value_of(given)
