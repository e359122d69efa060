"""How much work operations are, told apart by what their time follows from.

Matrix products take as long as they have floating-point operations, everything else as long as it moves bytes, and each
operation takes a moment more, however small it is. What grows with the rows of a batch is told apart from what is the
same for any batch (the optimizer's work, weights that a method makes anew in each step): real batches are shorter than
those that are simulated. In a forward pass what came of a tensor of the rows is of the rows; in a backward pass, what
has as many entries as something that was. Not covered: gradients that by chance have as many entries as activations.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

STAGES = STEP, FROZEN, EVALUATION, SET_UP, WRITING = ("step", "frozen", "evaluation", "set_up", "writing")
"""What of a training takes time: a step, what of it frozen layers whose states are kept do, a batch of an evaluation,
all calibrations, and the next token of a batch of texts that are written."""
_NO_BACKWARD = -1
_THIN = 8
"""Floating-point operations for each byte: a product of fewer waits for memory, like everything else."""
_aten = torch.ops.aten
_FREE = {_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty, _aten._unsafe_view, _aten.lift_fresh}
"""Operations that compute nothing, beside views."""


@dataclass(frozen=True)
class Work:
    """How much was done."""

    operations: int = 0
    """But for views."""
    flops: int = 0
    """Floating-point operations of matrix products, convolutions and attention."""
    moved: int = 0
    """Bytes read and written by everything else, and by thin products."""
    flops_of_rows: int = 0
    """What of `flops` grows with the rows of a batch and with their length."""
    moved_of_rows: int = 0
    """The same of `moved`."""

    def __add__(self, other: "Work") -> "Work":
        return Work(*(one + its for one, its in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Work") -> "Work":
        return Work(*(one - its for one, its in zip(astuple(self), astuple(other), strict=True)))

    def times(self, number: float) -> "Work":
        return Work(*(round(number * each) for each in astuple(self)))

    def of_batch(self, rows: float) -> "Work":
        """That of so many rows at once, where this is of a single one."""
        flops, moved = (rows - 1) * self.flops_of_rows, (rows - 1) * self.moved_of_rows
        return self + Work(0, round(flops), round(moved), round(flops), round(moved))

    def named(self, stage: str) -> dict[str, int]:
        """By names that tell stages apart; `of` reads it back."""
        return {f"{stage} {name}": value for name, value in zip(KINDS, astuple(self), strict=True)}

    @classmethod
    def of(cls, stage: str, named: Mapping[str, int]) -> Self:
        """That of one stage; none where it is not told."""
        return cls(*(named.get(f"{stage} {name}", 0) for name in KINDS))


KINDS = tuple(each.name for each in fields(Work))


class Count:
    """Adds up operations, one after the other."""

    def __init__(self) -> None:
        self._of_rows: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._sizes: set[int] = set()
        self._done = [0] * len(KINDS)

    @property
    def done(self) -> Work:
        return Work(*self._done)

    def begins_with(self, batch: Iterable[Tensor]) -> None:
        """These tensors are of the rows of a batch."""
        for tensor in batch:
            self._mark(tensor)

    def add(self, func: Any, args: Any, result: Any, flops: int) -> None:
        """One operation."""
        given, made = [*_tensors(args)], [*_tensors(result)]
        if torch._C._current_graph_task_id() == _NO_BACKWARD:
            of_rows = any(self._is_of_rows(each) for each in given)
            if of_rows:
                for each in made:
                    self._mark(each)
        else:
            of_rows = any(each.numel() in self._sizes for each in (*given, *made))
        if func.is_view or func._overloadpacket in _FREE:
            return
        moved = sum(map(_bytes, given)) + sum(map(_bytes, made))
        if flops > _THIN * moved:
            moved = 0
        for at, value in enumerate((1, flops, moved, flops * of_rows, moved * of_rows)):
            self._done[at] += value

    def _mark(self, tensor: Tensor) -> None:
        for storage in storages(tensor):
            self._of_rows[id(storage)] = weakref.ref(storage)
        self._sizes.add(tensor.numel())

    def _is_of_rows(self, tensor: Tensor) -> bool:
        # A storage that is gone may have left its number to another one.
        return any(
            (known := self._of_rows.get(id(storage))) is not None and known() is storage for storage in storages(tensor)
        )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def storages(tensor: Tensor) -> Iterator[torch.UntypedStorage]:
    """A sparse tensor has two: of the places of its entries and of their values."""
    if tensor.layout is torch.sparse_coo:
        yield tensor._indices().untyped_storage()
        yield tensor._values().untyped_storage()
    else:
        yield tensor.untyped_storage()


def _bytes(tensor: Tensor) -> int:
    """Of what is there; an expanded tensor has fewer than entries."""
    held = sum(storage.nbytes() for storage in storages(tensor))
    return held if tensor.layout is torch.sparse_coo else min(tensor.numel() * tensor.element_size(), held)
