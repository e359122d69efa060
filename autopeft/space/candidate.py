"""A candidate: one point of a space, as plain frozen values that travel to workers and into the database."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

Value = str | int | float | bool | None | tuple["Value", ...]


@dataclass(frozen=True)
class Part:
    """One method of a candidate, with its hyperparameters and its own learning rate."""

    method: str
    """Name of the method's card."""
    settings: Mapping[str, Value] = field(default_factory=dict)
    """Hyperparameters, by name; those not named keep the card's defaults."""
    learning_rate: float = 1e-3
    """Peak learning rate of this method's tensors (AdamW)."""
    weight_decay: float = 0.0
    """Decoupled weight decay of this method's tensors; scales, gates, norms and biases are never decayed."""


OF_TASKS = ("pooling", "head_start", "head_learning_rate", "flip", "shift")
"""Those of a training's settings that are about the task's head and inputs; not every task has all of them."""

SCHEDULES = ("linear", "cosine")
"""How a learning rate may fall."""


@dataclass(frozen=True)
class Training:
    """How a candidate is trained; shared by all its parts."""

    head_learning_rate: float = 1e-3
    """Peak learning rate of the task head."""
    head_start: str = "probe"
    """Where the head starts: 'probe' (a linear probe on frozen features) or 'random'."""
    pooling: str = "mean"
    """How token states become one vector: 'mean', 'first' or 'last' (of the real tokens)."""
    batch_size: int = 32
    """Examples in an optimizer step."""
    micro_batch_size: int | None = None
    """Examples in one forward pass; gradients are accumulated up to batch_size. None: the whole batch at once."""
    epochs: float = 3.0
    """Passes over the training data."""
    least_steps: int = 0
    """Optimizer steps at least, in as many further passes as that takes: few rows need more than one pass."""
    warmup: float = 0.06
    """Fraction of all steps in which the learning rate rises linearly; it falls to 0 afterwards."""
    schedule: str = "linear"
    """How the learning rate falls: 'linear', or 'cosine' (as half a period of a cosine does)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    flip: bool = False
    """Of images, mirror each from left to right by chance."""
    shift: float = 0.0
    """Of images, move each by chance, by at most this share of its sides."""

    @property
    def at_once(self) -> int:
        """Examples in one forward pass."""
        return min(self.micro_batch_size or self.batch_size, self.batch_size)

    @property
    def augments(self) -> bool:
        """Whether images are changed by chance, so that no two passes see the same."""
        return self.flip or self.shift > 0


@dataclass(frozen=True)
class Candidate:
    """A method or hybrid with all its hyperparameters and its training settings."""

    name: str
    """The method's or hybrid's name, or 'a+b' for a free mixture."""
    parts: tuple[Part, ...]
    training: Training = field(default_factory=Training)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "parts": [asdict(part) | {"settings": _plain(dict(part.settings))} for part in self.parts],
            "training": asdict(self.training),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        parts = tuple(Part(**{**part, "settings": _frozen(part["settings"])}) for part in plain["parts"])
        return cls(plain["name"], parts, Training(**plain["training"]))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
