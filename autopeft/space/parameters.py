"""A parameter of a space: its default and what else it may be; and where its values are drawn from.

Lists and names are drawn as text (`q,v`), because that is what a sampler, a database and a report can hold alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from autopeft.errors import AutopeftError
from autopeft.space.candidate import Value

_FIELDS = {"default", "values", "low", "high", "log"}


@dataclass(frozen=True)
class Parameter:
    """A default, and either a tuple of values or a range; neither means that it does not vary."""

    default: Value
    values: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False

    @property
    def varies(self) -> bool:
        return len(self.values) > 1 or self.low is not None

    @property
    def whole(self) -> bool:
        """Whether a range holds whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def labels(self) -> tuple[str | int | float | bool | None, ...]:
        """The values as a sampler sees them."""
        return tuple(label(value) for value in self.values)

    def value_of(self, drawn: Any) -> Value:
        """The value behind a drawn label or number."""
        for value in self.values:
            if label(value) == drawn:
                return value
        return int(drawn) if self.whole else float(drawn)

    def holds(self, value: Value) -> bool:
        """Whether `value` may be drawn."""
        if self.values:
            return value in self.values
        if self.low is None or self.high is None:
            return value == self.default
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        if self.low is not None:
            return f"{self.low:g} … {self.high:g}{' (log)' if self.log else ''}"
        gap = " | " if any(isinstance(value, tuple) for value in self.values) else ", "
        return gap.join(str(label(value)) for value in self.values) if self.varies else ""


class Draws(Protocol):
    """Where a space gets its values from: a sampler, a random generator, the defaults, or a memory of earlier draws."""

    def draw(self, name: str, parameter: Parameter) -> Value:
        """A value that `parameter` holds."""


@dataclass(frozen=True)
class Recalled:
    """Draws what was drawn before, and defaults for what was not: `Recalled({})` draws all defaults."""

    drawn: Mapping[str, Any]

    def draw(self, name: str, parameter: Parameter) -> Value:
        if name not in self.drawn:
            return parameter.default
        return parameter.value_of(self.drawn[name])


def label(value: Value) -> str | int | float | bool | None:
    """A value as a sampler, a database and a report hold it."""
    return ",".join(str(item) for item in value) if isinstance(value, tuple) else value


def read_parameter(plain: Any, where: str) -> Parameter:
    """A parameter from YAML: a plain value (fixed) or a mapping of default, values, low, high, log.

    Raises AutopeftError that begins with `where` (file and field).
    """
    if not isinstance(plain, Mapping):
        return Parameter(frozen(plain))
    for name in plain:
        if name not in _FIELDS:
            raise AutopeftError(
                f"{where}: '{name}' is not a field of a parameter; it has {', '.join(sorted(_FIELDS))}."
            )
    if "default" not in plain:
        raise AutopeftError(f"{where}: a default is missing.")
    values = tuple(frozen(value) for value in plain.get("values", ()))
    parameter = Parameter(
        frozen(plain["default"]), values, plain.get("low"), plain.get("high"), bool(plain.get("log", False))
    )
    if values and parameter.low is not None:
        raise AutopeftError(f"{where}: give either values or low and high, not both.")
    if (parameter.low is None) != (parameter.high is None):
        raise AutopeftError(f"{where}: a range needs both low and high.")
    for bound in (parameter.low, parameter.high):
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float)):
            raise AutopeftError(f"{where}: '{bound}' is not a number (write 1.0e-3 rather than 1e-3).")
    low, high = parameter.low, parameter.high
    if low is not None and high is not None and (low > high or (parameter.log and low <= 0)):
        raise AutopeftError(f"{where}: {low} to {high} is not a range{' on a log scale' * parameter.log}.")
    if not parameter.holds(parameter.default):
        raise AutopeftError(
            f"{where}: the default {label(parameter.default)} is not among what it may be: {parameter}."
        )
    return parameter


def frozen(value: Any) -> Value:
    """Lists, also nested, as tuples."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(frozen(item) for item in value)
    return value  # type: ignore[no-any-return]
