"""What a training needs to go on after a rung as if it had never been interrupted, and the file that it is kept in.

Kept are what is trained (methods and head), what methods go by beside that, the optimizer and the scale of losses,
torch's random numbers, and the curve so far. What follows from the candidate and its seed is made again: the learning
rates, the order of the data, and all that methods draw when they are attached. On a CPU, a training that goes on gives
the same numbers to the bit. Files hold tensors and plain values only, so that reading one runs nobody's code.
"""

import pickle
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from autopeft.files import appearing
from autopeft.training.model import TaskModel
from autopeft.trial import Rung

OF_DISK = 0.05
"""Share of what is free of the disk that a state may take."""


@dataclass(frozen=True)
class State:
    """A training at one of its rungs."""

    curve: tuple[Rung, ...]
    """Up to this rung."""
    methods: Sequence[Mapping[str, Mapping[str, Tensor]]]
    """As `Attached.state` gives it."""
    head: Mapping[str, Tensor]
    optimizer: Mapping[int, Mapping[str, Tensor]]
    """What it remembers of each tensor."""
    random: Mapping[str, Tensor]
    """Of the CPU, and of the device where that is another."""
    steps: int
    examples: int
    seconds: float
    """Steps, training rows and seconds so far, evaluations left out."""
    scaler: Mapping[str, Any] = field(default_factory=dict)
    """By how much losses are scaled in fp16; empty in other precisions."""
    told: Mapping[str, float] = field(default_factory=dict)
    """What whoever keeps it wants to know again."""

    @classmethod
    def of(
        cls,
        model: TaskModel,
        optimizer: torch.optim.Optimizer,
        random: Mapping[str, Tensor],
        curve: tuple[Rung, ...],
        pace: tuple[int, int, float],
        scaler: torch.amp.GradScaler,
    ) -> Self:
        """Nothing is copied: it holds until the next step."""
        known = optimizer.state_dict()["state"]
        return cls(curve, model.methods.state(), model.head.state_dict(), known, random, *pace, scaler.state_dict())

    @property
    def bytes(self) -> int:
        """Of all its tensors."""
        return sum(tensor.nbytes for tensor in _tensors((self.methods, self.head, self.optimizer)))

    def restore(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        """Lets a new optimizer and a new scaler remember what the old ones did."""
        optimizer.load_state_dict({**optimizer.state_dict(), "state": self.optimizer})
        if self.scaler:
            scaler.load_state_dict(dict(self.scaler))


def take_up(model: TaskModel, state: State) -> None:
    """Makes a model with newly attached methods and a new head what it was, instead of calibrating it."""
    model.methods.take_up(state.methods)
    model.head.load_state_dict(state.head)


def random_numbers(device: torch.device) -> Mapping[str, Tensor]:
    """Where torch's random numbers stand."""
    there = {"cpu": torch.get_rng_state()}
    return there | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else there


def draw_on_from(random: Mapping[str, Tensor], device: torch.device) -> None:
    """Lets torch's random numbers go on from where they stood."""
    torch.set_rng_state(random["cpu"])
    if device.type == "cuda" and "cuda" in random:
        torch.cuda.set_rng_state(random["cuda"], device)


def write_state(state: State, file: Path, of: Mapping[str, Any]) -> bool:
    """Keeps a state `of` one training, whole or not at all, in the place of an earlier one; says whether it was kept:
    there may be too little room.
    """
    if not fits(state.bytes, file.parent):
        return False
    with suppress(OSError, RuntimeError), appearing(file) as place:
        # RuntimeError is what torch raises where the disk is full.
        torch.save({**_plain(state), "of": dict(of)}, place)
        return True
    return False


def read_state(file: Path, of: Mapping[str, Any]) -> State | None:
    """The state that was kept of this training; None where there is none, or one of another."""
    try:
        plain = torch.load(file, map_location="cpu", weights_only=True)
        if plain.pop("of") != dict(of):
            return None
        return State(**{**plain, "curve": tuple(Rung(**rung) for rung in plain["curve"])})
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, AttributeError, pickle.UnpicklingError):
        return None


def fits(size: int, folder: Path) -> bool:
    """Whether so many bytes are few enough to be kept on the way."""
    return size <= OF_DISK * shutil.disk_usage(folder).free


def _plain(state: State) -> dict[str, Any]:
    """As plain values, whose tensors are alone in their memory: of a view all would be written. A metric may give
    numbers of NumPy's, which are none.
    """
    plain = {name: _alone(value) for name, value in vars(state).items() if name != "curve"}
    return {**plain, "curve": [_alone(asdict(rung)) for rung in state.curve]}


def _alone(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach()
        return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {name: _alone(each) for name, each in value.items()}
    return [_alone(each) for each in value] if isinstance(value, list | tuple) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(each)
