"""What an estimate tells: plain values, which need none of the libraries that make them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from autopeft.notebooks import Shown
from autopeft.trial import Costs


@dataclass(frozen=True)
class Expected:
    """Seconds with their standard error."""

    seconds: float
    error: float


@dataclass(frozen=True)
class About:
    """What an estimate is about."""

    model: str
    task: str
    batch_size: int
    """Examples in a training step."""
    length: int
    """Tokens of every example."""
    gradient_checkpointing: bool
    dtype: str
    """What the backbone's weights are held in."""
    memory: float | None
    """The limit on memory in bytes: what was asked for, or what fits into what a GPU here has free."""
    space: str
    rows: int | None
    """Of the training data, where seconds are asked for."""


@dataclass(frozen=True)
class Estimate(Shown):
    """One method or hybrid at its defaults."""

    name: str
    costs: Costs | None
    """None where it does not go on the backbone."""
    refused: str = ""
    """Why it does not."""
    largest: Mapping[str, int] = field(default_factory=dict)
    """Under a limit of memory, the largest value that fits of `batch_size`, and of every size such as `lora.rank`, each
    with all else as asked; 0 where none does, and at most 1024 examples and the backbone's width."""
    seconds: Expected | None = None
    """Of a whole training on this device, where rows to train on were given."""

    def __repr__(self) -> str:
        said = f"refused, {self.refused}" if self.costs is None else self.costs.told()
        return f"<Estimate {self.name}: {said}>"
