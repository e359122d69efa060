"""What a backbone's frozen layers compute is computed once: their states are kept, and training goes on from there.

Where nothing is trained in the lowest layers, and nothing acts on them, the states behind them are the same in every
epoch and every trial. The architecture's own forward pass runs as ever, embeddings, masks and positions included; only
the calls of these layers are answered with what is kept. A pass over rows that are not kept runs the layers and keeps
what they give, so a store fills itself, and one that a candidate filled serves all others that have their lowest
trained layer there or higher.

Whether the model gives the same with kept states is tried on two rows, at values that training could reach, before a
trial is trained. Where it does not, where a method looks at padding (peft's Lily does), or where there is no room, all
is computed as ever, and the trial's facts tell why.

States of a row that was computed in another batch may differ in the last bits: losses are within 1e-5 in fp32.
Not covered: images that are changed by chance, layers that hand on more than states (T5's do), and what a method
computes before its first step.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autopeft.data.states import ROWS, KeptStates, bytes_of, free, numbered, own_share, room
from autopeft.data.store import MASK, Dataset
from autopeft.methods.observed import Call
from autopeft.methods.passes import evaluating
from autopeft.space.candidate import Training
from autopeft.tasks.heads import Batch
from autopeft.training.batches import on_device
from autopeft.training.model import TaskModel
from autopeft.training.precision import BFLOAT16, FLOAT16, FLOAT32, autocast, precision_of

LEAST = 0.25
"""Of all layers must be frozen: what fewer compute is not worth the room that their states take."""
_SPREAD = 0.05
"""How far trained tensors are moved for the trial: what is zero at the start would hide what hangs on it."""
_TOLERANCE = {BFLOAT16: 2e-2, FLOAT16: 4e-3, FLOAT32: 2e-5}
"""How far states may lie apart, as a fraction of the largest."""


@dataclass(frozen=True)
class Kept:
    """What is kept for one trial."""

    layers: int
    """Lowest layers that are frozen."""
    bytes: int = 0
    """Of the states that serve it, of all rows."""
    why_not: str = ""
    """Why none are kept; empty where some are, and where no layers are frozen."""

    def facts(self) -> Mapping[str, Any]:
        """For the trial's outcome."""
        plain = {"frozen_layers": self.layers, "kept_states": self.bytes}
        return plain | ({"states_not_kept": self.why_not} if self.why_not else {})


def is_worth(frozen: int, layers: int) -> bool:
    """Whether states behind the lowest `frozen` of so many layers are kept."""
    return frozen >= max(1, LEAST * layers)


def levels_of(frozen: Sequence[nn.Module], read: Collection[nn.Module]) -> frozenset[int]:
    """The layers, by number, whose states serve a candidate: the last frozen one, and those behind which a method reads
    them.
    """
    behind = (number for number, layer in enumerate(frozen) if layer in read and layer._forward_hooks)
    return frozenset({len(frozen) - 1, *behind})


def entry(wanted: Collection[int], filled: Collection[int]) -> int:
    """The highest layer whose states are kept, and with it those of all `wanted` layers below; -1 where none is."""
    missing = min((level for level in wanted if level not in filled), default=max(wanted) + 1)
    return max((level for level in filled if level < missing), default=-1)


class FrozenStates:
    """The kept states of one backbone and its splits, for one trial after another."""

    def __init__(self, train: Dataset, validation: Dataset) -> None:
        self.train, self.validation = numbered((train, validation))
        """The same splits, whose batches say which rows they are of."""
        self._levels: dict[int, KeptStates] = {}

    @property
    def bytes(self) -> int:
        """Held by now, in memory and on disk alike."""
        return sum(states.bytes for states in self._levels.values())

    @contextmanager
    def serving(self, model: TaskModel, training: Training, device: torch.device) -> Iterator[Kept]:
        """While it lasts, rows of these splits pass the model's frozen layers only where they are not kept yet."""
        frozen = model.methods.frozen
        if not is_worth(len(frozen), model.methods.depth):
            yield Kept(len(frozen))
            return
        if training.augments:
            yield Kept(len(frozen), why_not="images are changed by chance")
            return
        passing = _Passing(frozen, levels_of(frozen, model.methods.read), self._levels)
        with passing.in_place():
            why_not = self._prepared(model, passing, device)
            model.passing = None if why_not else passing
            try:
                yield Kept(len(frozen), 0 if why_not else passing.bytes, why_not)
            finally:
                model.passing = None

    def _prepared(self, model: TaskModel, passing: "_Passing", device: torch.device) -> str:
        """Makes room for what is wanted and tries it. Returns why it cannot be had, or nothing."""
        batch = on_device(self.train.batch(_two(self.train.lengths)), device)
        precision = precision_of(device, model.held)
        before = {*self._levels}
        with evaluating(model), _moved([*model.methods.parameters()]), torch.no_grad(), autocast(device, precision):
            plain, given = _observed(model, batch, passing)
            if given is None:
                return "layers hand on more than states, or are not called one after the other"
            why_not = self._make_room(model, batch, passing, given)
            if why_not:
                return why_not
            _, served, padded = (_served(model, batch, passing, padding) for padding in (0.0, 0.0, 1.0))
        if not _alike(plain, served, batch.get(MASK), _TOLERANCE[precision]):
            why_not = "the model gives other states with kept ones"
        elif not _alike(served, padded, batch.get(MASK), _TOLERANCE[FLOAT32]):
            why_not = "what is attached reads padding, whose states are not kept"
        if why_not:
            for level in self._levels.keys() - before:
                del self._levels[level]
        return why_not

    def _make_room(self, model: TaskModel, batch: Batch, passing: "_Passing", given: Mapping[int, Tensor]) -> str:
        """Of less room than all want, layers below those wanted may serve that are kept already."""
        lengths = self._lengths(model) if MASK in batch else None
        rows = len(self.train) + len(self.validation)
        longest = batch[MASK][:, : model.longest].shape[1] if MASK in batch else 0
        if lengths is not None and any(states.shape[1] != longest for states in given.values()):
            return "layers do not give one state for each token"
        missing = sorted(passing.wanted - self._levels.keys())
        wanted = sum(bytes_of(lengths, rows, given[level]) for level in missing)
        allowed = room(**free(), held=self.bytes, share=own_share())
        there = [level for level in self._levels if level < max(passing.wanted)]
        if wanted > allowed and len(passing.wanted) == 1 and there:
            passing.wanted = frozenset({max(there)})
            return ""
        if wanted > allowed:
            return f"there is room for {allowed:,} bytes, and they take {wanted:,}"
        try:
            self._levels.update({level: KeptStates(lengths, rows, given[level]) for level in missing})
        except OSError as error:
            return f"the disk has no room for {wanted:,} bytes: {error.strerror}"
        return ""

    def _lengths(self, model: TaskModel) -> np.ndarray:
        lengths = np.concatenate([self.train.lengths, self.validation.lengths])
        return lengths if model.longest is None else np.minimum(lengths, model.longest)


class _Passing:
    """Frozen layers whose calls are answered with kept states where there are some."""

    def __init__(self, layers: Sequence[nn.Module], wanted: frozenset[int], levels: Mapping[int, KeptStates]) -> None:
        self._layers = layers
        self.wanted = wanted
        """Layers whose states are kept on the way."""
        self._levels = levels
        self.padding = 0.0
        """What stands in the place of states of padding, which nothing may depend on."""
        self._rows: np.ndarray | None = None
        self._entry = -1
        self._next = 0
        self._rest: dict[int, tuple[Any, ...] | None] = {}

    @property
    def bytes(self) -> int:
        """Of the states that it reads."""
        return sum(self._levels[level].bytes for level in self.wanted)

    @contextmanager
    def __call__(self, rows: Tensor) -> Iterator[None]:
        """These rows pass."""
        self._rows = rows.numpy(force=True)
        below = [level for level in self._levels if level <= max(self.wanted)]
        self._entry = entry(self.wanted, [level for level in below if self._levels[level].has(self._rows)])
        self._next = self._entry + 1
        try:
            yield
        finally:
            self._rows = None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The layers are asked here first."""
        for number, layer in enumerate(self._layers):
            layer.forward = partial(self._answer, number, layer.forward)
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward

    def observe(self, run: Callable[[], Tensor]) -> tuple[Tensor, Mapping[int, Tensor] | None]:
        """What `run` gives, and the states behind each layer; None for layers that give more, or come out of turn."""
        given: list[tuple[int, Any]] = []
        handles = [
            layer.register_forward_hook(lambda _, __, output, number=number: given.append((number, output)))
            for number, layer in enumerate(self._layers)
        ]
        try:
            output = run()
        finally:
            for handle in handles:
                handle.remove()
        return output, self._understood(given)

    def _understood(self, given: Sequence[tuple[int, Any]]) -> Mapping[int, Tensor] | None:
        if [number for number, _ in given] != [*range(len(self._layers))]:
            return None
        states = {}
        for number, output in given:
            first, *rest = output if isinstance(output, tuple) else (output,)
            if not isinstance(first, Tensor) or any(each is not None for each in rest):
                return None
            states[number] = first
            self._rest[number] = tuple(rest) if isinstance(output, tuple) else None
        return states

    def _answer(self, number: int, run: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        if self._rows is None:
            return run(*inputs, **named)
        if number <= self._entry:
            states, rest = self._kept(number, Call.of(inputs, named).states), self._rest[number]
            return states if rest is None else (states, *rest)
        output = run(*inputs, **named)
        # Whoever skips layers by chance gives states that are nobody's.
        in_turn = number == self._next
        self._next += in_turn
        if in_turn and number in self.wanted:
            self._levels[number].put(self._rows, output[0] if isinstance(output, tuple) else output)
        return output

    def _kept(self, number: int, states: Tensor) -> Tensor:
        """Where nobody reads them on the way, states go on as they came."""
        if number != self._entry and number not in self.wanted:
            return states
        assert self._rows is not None
        kept = self._levels[number].get(self._rows, states.shape[1], self.padding)
        return kept.to(states.device, non_blocking=True)


def _observed(model: TaskModel, batch: Batch, passing: _Passing) -> tuple[Tensor, Mapping[int, Tensor] | None]:
    plain = {name: each for name, each in batch.items() if name != ROWS}
    return passing.observe(lambda: model.states(plain))


def _served(model: TaskModel, batch: Batch, passing: _Passing, padding: float) -> Tensor:
    model.passing, passing.padding = passing, padding
    try:
        return model.states(batch)
    finally:
        model.passing, passing.padding = None, 0.0


def _two(lengths: np.ndarray) -> np.ndarray:
    """Two rows, a short one and one of typical length."""
    order = np.argsort(lengths, kind="stable")
    return order[[0, len(order) // 2]]


def _alike(one: Tensor, other: Tensor, mask: Tensor | None, tolerance: float) -> bool:
    """Whether the states of real tokens are the same, but for roundings."""
    if mask is not None:
        real = mask[:, : one.shape[1]].bool()
        one, other = one[real], other[real]
    one, other = one.float(), other.float()
    return bool((one - other).abs().max() <= tolerance * one.abs().max())


@contextmanager
def _moved(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Trained tensors at other values meanwhile."""
    before = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        try:
            for tensor in tensors:
                tensor.add_(_SPREAD * torch.randn(tensor.shape, generator=generator).to(tensor))
            yield
        finally:
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
