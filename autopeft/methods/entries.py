"""What methods share that train single entries of tensors: values with their positions, the best of them, and files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from autopeft.errors import AutopeftError
from autopeft.methods.hooked import require_finite, trained_in

POSITIONS = ":indices"
"""Ending of the name under which the positions of a tensor's entries are saved."""


class Entries(nn.Module):
    """Selected entries of one tensor; their positions count along the flattened tensor."""

    values: nn.Parameter
    indices: Tensor

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(tensor.new_empty(0, dtype=trained_in(tensor)))
        small = tensor.numel() < 2**31
        nothing = torch.empty(0, dtype=torch.int32 if small else torch.int64, device=tensor.device)
        self.register_buffer("indices", nothing)

    def select(self, indices: Tensor, values: Tensor) -> None:
        """Other entries from now on; the parameter stays the same object, whatever its size."""
        self.values.data = values.to(self.values.device, self.values.dtype)
        self.indices = indices.to(self.indices.device, self.indices.dtype)


def shares(sizes: Sequence[int], count: int) -> list[int]:
    """`count` entries divided among tensors in proportion to their sizes."""
    size, passed, given = sum(sizes), 0, []
    for each in sizes:
        given.append((passed + each) * count // size - passed * count // size)
        passed += each
    return given


def highest(scores: Tensor, sizes: Sequence[int], count: int) -> list[Tensor]:
    """The positions, ascending, of the `count` highest scores in each of the tensors whose scores lie end to end."""
    top = torch.zeros_like(scores, dtype=torch.bool)
    top[scores.topk(count, sorted=False).indices] = True
    return [part.nonzero().flatten() for part in torch.split(top, list(sizes))]


def checked(
    saved: Mapping[str, Tensor], sizes: Mapping[str, int], count: int, file: Path
) -> dict[str, tuple[Tensor, Tensor]]:
    """Positions and values of the saved entries by tensor. Raises AutopeftError when they are not `count` in all, or do
    not fit tensors of these sizes.
    """
    values = {name: tensor for name, tensor in saved.items() if not name.endswith(POSITIONS)}
    found = sum(tensor.numel() for tensor in values.values())
    if found != count:
        raise AutopeftError(f"'{file}' does not belong to this model: {found} entries, not {count}.")
    chosen = {}
    for name, value in values.items():
        if name not in sizes:
            raise AutopeftError(f"'{file}' does not belong to this model and method: it has no '{name}'.")
        indices = saved.get(f"{name}{POSITIONS}", torch.empty(0))
        whole = not indices.is_floating_point() and not indices.is_complex() and indices.ndim == value.ndim == 1
        fits = whole and len(indices) == len(value) > 0 and indices.min() >= 0 and (indices.diff() > 0).all()
        if not fits or indices[-1] >= sizes[name]:
            raise AutopeftError(f"'{file}' is damaged: the positions of '{name}' do not fit it.")
        require_finite(name, value, file)
        chosen[name] = indices, value
    return chosen
