"""The contract between a method, the model it attaches to, and everything that trains, measures or saves it.

A Method is a frozen value (hyperparameters). Attaching it to a model gives an Attachment, which can be asked for its
trainable tensors, its extra loss, its state, and to leave the model exactly as it was. Nothing outside
`autopeft.methods` asks which method it holds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from autopeft.backbone.sites import Sites
from autopeft.errors import CannotMerge

Losses = Callable[[int, int], Iterator[Callable[[], Tensor]]]
"""(examples, batch size) -> one function per batch of that many training examples at most, which runs the model and
returns the batch's mean loss with its graph."""
Divergence = Callable[[Tensor, Tensor], Tensor]
"""How far the output of one pass over a batch lies from that of another, on average over what is to be learned."""
Batches = Callable[[], Iterator[Callable[[], Tensor]]]
"""Every time it is called, the losses of the same batches."""


@dataclass(frozen=True)
class Calibration:
    """A method's own pass over training data before training begins: what it does with it, and what it makes of it."""

    examples: int
    """Training examples, at most, that it is taken at."""
    batch_size: int
    tensors: Sequence[nn.Parameter]
    """What losses are differentiated by."""
    take: Callable[[Sequence[Tensor], Batches], Any]
    """(tensors, batches) -> what was seen. A simulation gives other tensors in the place of `tensors`."""
    use: Callable[[Any], None]
    """Changes what is trained, or where it begins, by what was seen."""

    @property
    def batches(self) -> int:
        """Batches, at most, that it goes through."""
        return -(-self.examples // self.batch_size)


class Stage(IntEnum):
    """The order in which a hybrid's parts attach; they detach in the opposite order."""

    REPLACE = 0
    """Puts layers of its own in the place of the model's (peft's tuners)."""
    HOOK = 1
    """Watches and changes what flows, or trains parameters that are there."""
    WRAP = 2
    """Wraps the whole model (peft's prompt methods)."""


class Method(ABC):
    """One way to fine-tune few weights, at given hyperparameters. Implementations are frozen dataclasses."""

    stage: Stage = Stage.HOOK
    excludes_others: str = ""
    """Why no other method may be attached beside it; empty: others may."""
    lacks: Mapping[str, str] = MappingProxyType({})
    """What a task may ask for (its `needs`) and this method has not: the capability's name, and why.

    `causal`: the states of a decoder do not depend on later tokens. `packable`: those of several
    examples in one row are as they would be alone. `cached`: states are the same where keys and values
    of earlier tokens come from a cache. `prompt`: what is prepended to texts are embeddings, which an
    attachment's `prompt` gives. `crossed`: it goes on an encoder and its decoder together.
    `quantised`: the matrices of the backbone may be packed; a copy that is unpacked may be computed
    with, but they cannot be changed or trained.
    """

    @abstractmethod
    def attach(self, model: nn.Module, sites: Sites) -> "Attachment":
        """Attaches to `model`, changing no value of its tensors.

        Raises CannotAttach with the reason; whatever is raised, nothing stays on the model.
        """


class Attachment(ABC):
    """A method on a living model, until `detach`."""

    model: nn.Module
    """What one calls from now on: the model itself, or a wrapper."""
    module: nn.Module
    """The weights that the method adds and keeps outside the model; empty when it adds none there."""
    prepended: int = 0
    """Positions that the method puts before the real tokens in the model's output."""
    mergeable: bool = False
    """Whether `merge` can fold the method into the model's weights."""
    alone: bool = False
    """Whether no other method may act on the parameters that it `moves`."""

    @abstractmethod
    def trainable(self) -> Mapping[str, nn.Parameter]:
        """The tensors to train, by a name that is stable from save to load."""

    def shipped(self) -> Mapping[str, Tensor]:
        """The tensors that `save` writes, by name: those trained, unless some of them serve training only."""
        return self.trainable()

    def selects(self) -> Iterable[nn.Parameter]:
        """The backbone's own parameters that it trains, whole or some of their entries."""
        return ()

    def moves(self) -> Iterable[nn.Parameter]:
        """The backbone's own parameters that it changes by something else, and leaves frozen."""
        return ()

    def reads(self) -> Iterable[nn.Module]:
        """Modules of the backbone that it has hooks on only to read their states, and the one that gives the last ones,
        in whose place it may give others: whatever comes before that is as without it.
        """
        return ()

    def prompt(self) -> Tensor | None:
        """(prepended, width) embeddings of the positions that it puts before the real tokens; None where there are
        none.
        """
        return None

    def undecayed(self) -> frozenset[str]:
        """Names out of `trainable` that weight decay must leave alone (scales, gates, norms, biases)."""
        return frozenset(name for name, t in self.trainable().items() if t.numel() == max(t.shape, default=1))

    @contextmanager
    def calibrating(self) -> Iterator[Calibration | None]:
        """While it lasts, the method is ready for its calibration; None where it needs none."""
        yield None

    def set_up(self, losses: Losses) -> None:
        """Calibrates on training data before training begins, at a cost that the method's settings bound.

        Leaves no gradients, and changes no values but those of `trainable`.
        """
        with self.calibrating() as calibration:
            if calibration is not None:
                seen = calibration.take(
                    calibration.tensors, partial(losses, calibration.examples, calibration.batch_size)
                )
                calibration.use(seen)

    def extra_loss(self, output: Tensor, again: Callable[[], Tensor], divergence: Divergence) -> Tensor | None:
        """A term to add to the mean loss of the forward pass that gave `output` (rows, …), or None.

        `again` runs another forward pass on the same batch, with new random numbers; `divergence` compares the two.
        """
        return None

    def stepped(self, step: int, steps: int) -> None:
        """Hears that the optimizer has taken its step `step` (from 1) of `steps`; gradients are still there."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes what has to be shipped into an existing folder."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Reads back what `save` wrote, into the attached tensors. Raises AutopeftError when it does not fit."""

    def state(self) -> Mapping[str, Tensor]:
        """What training goes by at the moment beside the values of `trainable`, as tensors by name: what it changed or
        calibrated. What follows from settings and the seed is none of it.
        """
        return {}

    def take_up(self, state: Mapping[str, Tensor]) -> None:
        """Goes on, newly attached, as the one that gave this state, instead of being set up. The values of `trainable`
        are filled in afterwards, in the shapes that they had.
        """

    def settle(self) -> None:
        """Drops what serves training only, so that what is left computes what it will compute once saved and loaded."""

    def merge(self) -> None:
        """Folds the method into the model's weights for good; then only `detach` may be called.

        Parts of a hybrid merge in the order in which they attached. Raises CannotMerge unless `mergeable`.
        """
        raise CannotMerge("this method cannot be merged into the model's weights.")

    def as_lora(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The change of each weight as two factors, (rank, features in) and (features out, rank), by the module's path.

        Raises CannotMerge where it is none, or where nobody knows how.
        """
        raise CannotMerge("what this method does is no change of weights that a LoRA could stand for.")

    @abstractmethod
    def detach(self) -> None:
        """Takes the method off; every tensor of the model has its earlier value again (unless merged)."""
