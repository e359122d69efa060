"""Backbones with quantised matrices: what they take less of memory, and what unpacking a matrix takes more.

bitsandbytes packs the matrices of all linear layers and leaves embeddings and norms in bfloat16; before a matrix is
used, forwards and backwards, it is unpacked into bfloat16. So a step is simulated in bfloat16, its weights are
exchanged for packed ones, and one unpacked matrix, the largest, is added to every moment of the layers' work. What a
packed entry takes follows from the formats: nf4 has 4 bits, a scale of 8 bits for every 64 entries, and one of 32 bits
for every 256 scales (double quantisation: Dettmers et al. 2023, arXiv:2305.14314); int8 has 8 bits, and 32 bits for
every row (Dettmers et al. 2022, arXiv:2208.07339). Not covered: the columns of outliers that int8 multiplies apart, and
any measurement: bitsandbytes needs CUDA.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from autopeft.costs.depth import Profile
from autopeft.costs.meter import TEMPORARY, WEIGHTS
from autopeft.costs.step import IN_LAYERS
from autopeft.errors import CannotAttach
from autopeft.methods.attached import Attached


def _nf4(weight: torch.Tensor) -> int:
    scales = math.ceil(weight.numel() / 64)
    return math.ceil(weight.numel() / 2) + scales + 4 * math.ceil(scales / 256)


def _int8(weight: torch.Tensor) -> int:
    return weight.numel() + 4 * weight.shape[0]


FORMATS: Mapping[str, Callable[[torch.Tensor], int]] = {"nf4": _nf4, "int8": _int8}
"""Bytes of a packed matrix, by the format's name."""
COMPUTED_IN = torch.bfloat16
"""What everything else is held in."""


@dataclass(frozen=True)
class Packing:
    """How a backbone's matrices are packed."""

    format: str
    """One of `FORMATS`."""
    saved: int
    """Bytes that packing saves."""
    largest: int
    """Bytes of the largest matrix, unpacked."""

    def packed(self, profile: Profile) -> Profile:
        """What a simulated step in bfloat16 would show with packed matrices."""
        return replace(profile, phases={phase: self._phase(phase, parts) for phase, parts in profile.phases.items()})

    def _phase(self, phase: Any, parts: Mapping[str, int]) -> Mapping[str, int]:
        what, *_ = phase
        unpacked = self.largest if what in IN_LAYERS else 0
        return {**parts, WEIGHTS: parts[WEIGHTS] - self.saved, TEMPORARY: parts[TEMPORARY] + unpacked}


def packing_of(model: nn.Module, name: str) -> Packing:
    """How a model in bfloat16, with nothing attached, would be packed."""
    matrices = list(_matrices(model))
    unpacked = [weight.numel() * weight.element_size() for weight in matrices]
    return Packing(name, sum(unpacked) - sum(map(FORMATS[name], matrices)), max(unpacked, default=0))


def require_trainable(attached: Attached, name: str) -> None:
    """Raises CannotAttach where a method needs gradients of matrices that would be packed."""
    packed = {id(weight) for weight in _matrices(attached.model)}
    for chosen, part in zip(attached.chosen, attached.parts, strict=True):
        with part.calibrating() as calibration:
            needed = [*part.selects(), *(calibration.tensors if calibration else ())]
        if any(id(parameter) in packed for parameter in needed):
            raise CannotAttach(
                f"'{chosen.name}' needs gradients of the backbone's matrices, which {name} would quantise."
            )


def _matrices(model: nn.Module) -> Iterator[torch.Tensor]:
    """The weights of the backbone's own linear layers: what requires no gradient, or is trained in place."""
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield module.weight
