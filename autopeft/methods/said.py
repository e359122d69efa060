"""Intrinsic SAID: every weight of the backbone moves in one random subspace of few dimensions (Aghajanyan et al. 2021,
arXiv:2012.13255, section 3.1).

θ_i = θ0_i + λ_g P_i t for each tensor i: t is shared by all, λ_g belongs to the tensor's group (structure-aware) or
is 1 (DID, after Li et al. 2018, arXiv:1804.08838). P_i is a Fastfood transform H G Π H B of the next power of two, cut
to the tensor's size and divided so that its columns have length 1; B are random signs, Π is a permutation, G are normal
numbers and H is the Walsh-Hadamard matrix. They are drawn on the CPU from `seed` and the tensor's name, so that they
are the same everywhere and need not be saved. Where t is shorter than the transform, H B of t and the zeros after it
only repeats H B of t alone, so Π picks from that, and one transform of full size remains.

The changed weights exist while their module runs, and as long as the backward pass needs them. A weight that a model
uses without calling the module it belongs to stays as it is.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from autopeft.backbone.inputs import bare
from autopeft.backbone.sites import Sites
from autopeft.errors import AutopeftError, CannotAttach, unknown
from autopeft.methods.base import Attachment, Method
from autopeft.methods.hooked import Hooked, host, undone_on_error
from autopeft.methods.in_place import own_parameters

Groups = Literal["none", "layer", "tensor"]
_BLOCK = 32
"""Features of the largest Walsh-Hadamard matrix that is multiplied with; larger transforms are products of these. With
64 a transform takes 1.2 to 1.5 times as long on CPUs: more is computed, and no less is moved.
"""


@dataclass(frozen=True)
class Said(Method):
    """One vector of `dimensions` numbers, scales included, that all weights are projections of."""

    lacks = MappingProxyType({"quantised": "it moves the matrices themselves"})

    dimensions: int = 1000
    """Trained numbers in all."""
    groups: Groups = "layer"
    """Which tensors share a scale: those of a layer, none but itself (tensor); none: nothing is scaled (DID)."""
    seed: int = 0
    """What the random projections are drawn from."""

    def __post_init__(self) -> None:
        if self.dimensions < 1:
            raise AutopeftError(f"dimensions must be at least 1, not {self.dimensions}.")
        if self.groups not in get_args(Groups):
            raise unknown("groups", self.groups, get_args(Groups))

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        backbone = bare(model)
        chosen = own_parameters(backbone, sites, "")
        groups = self._groups(chosen, [model.get_submodule(path) for path in sites.layers])
        scales = max(groups) + 1 if self.groups != "none" else 0
        if scales >= self.dimensions:
            raise CannotAttach(f"of {self.dimensions} dimensions {scales} are scales of {self.groups}s: none remains.")
        device, _ = host(model, "")
        space = Subspace(self.dimensions - scales, scales).to(device)
        for (name, weight), group in zip(chosen.items(), groups, strict=True):
            seed = zlib.crc32(f"{self.seed} {name}".encode())
            space.projections.append(Projection(weight, len(space.vector), group if scales else None, seed))
        with undone_on_error(Projected(model, space, list(chosen.values()))) as attached:
            return attached

    def _groups(self, chosen: Mapping[str, nn.Parameter], layers: list[nn.Module]) -> list[int]:
        """Each tensor's group, numbered without gaps: what comes before the layers, each layer, what comes after."""
        if self.groups == "tensor":
            return list(range(len(chosen)))
        layer_of = {id(each): number for number, layer in enumerate(layers) for each in layer.parameters()}
        found, last = [], -1
        for weight in chosen.values():
            last = layer_of.get(id(weight), -1 if last == -1 else len(layers))
            found.append(last)
        numbers = sorted(set(found))
        return [numbers.index(each) for each in found]


class Projection(nn.Module):
    """P of one tensor: (dimensions,) -> the tensor's shape."""

    signs: Tensor
    order: Tensor
    normal: Tensor

    def __init__(self, weight: Tensor, dimensions: int, group: int | None, seed: int) -> None:
        super().__init__()
        self.group = group
        size = _power_of_two(weight.numel())
        short = min(size, _power_of_two(dimensions))
        generator = torch.Generator("cpu").manual_seed(seed)
        where: dict[str, Any] = {"device": "meta"} if weight.is_meta else {"device": "cpu", "generator": generator}
        signs = torch.randint(2, (short,), dtype=torch.int8, **where) * 2 - 1
        self.register_buffer("signs", signs.to(weight.device))
        order = torch.randperm(size, dtype=torch.int32, **where) % short
        self.register_buffer("order", order.to(weight.device))
        normal = torch.randn(size, dtype=torch.float32, **where)
        normal /= (weight.numel() * normal.square().sum()).sqrt()
        self.register_buffer("normal", normal.to(weight.device))

    def forward(self, t: Tensor, hadamard: Tensor, shape: torch.Size) -> Tensor:
        x = transformed(pad(t, (0, len(self.signs) - len(t))) * self.signs, hadamard)
        x = transformed(x.index_select(0, self.order) * self.normal, hadamard)
        return x[: shape.numel()].view(shape)


def _power_of_two(least: int) -> int:
    """The smallest power of two that is not less."""
    return 1 << (least - 1).bit_length()


class Subspace(nn.Module):
    """What is trained, and the projections in the order of the tensors."""

    hadamard: Tensor

    def __init__(self, dimensions: int, scales: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(dimensions, dtype=torch.float32))
        self.scales = nn.Parameter(torch.ones(scales, dtype=torch.float32)) if scales else None
        self.projections = nn.ModuleList()
        matrix = torch.ones(1, 1)
        while len(matrix) < _BLOCK:
            matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
        self.register_buffer("hadamard", matrix)

    def changed(self, number: int, weight: Tensor) -> Tensor:
        """Weight `number` with its projection added, in the weight's dtype."""
        projection: Any = self.projections[number]
        with torch.autocast(weight.device.type, enabled=False):
            scale = 1.0 if self.scales is None else self.scales[projection.group]
            added: Tensor = projection(self.vector * scale, self.hadamard, weight.shape)
            return weight + added.to(weight.dtype)


def transformed(x: Tensor, hadamard: Tensor) -> Tensor:
    """The Walsh-Hadamard transform, not normalised, of a vector whose length is a power of two."""
    made: Tensor = _Transformed.apply(x, hadamard)  # type: ignore[no-untyped-call]
    return made


class _Transformed(torch.autograd.Function):
    """The gradient is transformed alike, because the matrix is symmetric."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, hadamard: Tensor) -> Tensor:
        ctx.save_for_backward(hadamard)
        return _product(x, hadamard)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (hadamard,) = ctx.saved_tensors
        return _product(gradient.contiguous(), hadamard), None


def _product(x: Tensor, hadamard: Tensor) -> Tensor:
    """Two vectors are made, and written in turn: to make one of millions takes as long as a product."""
    length, within = len(x), 1
    into, other = torch.empty_like(x), torch.empty_like(x)
    while within < length:
        size = min(length // within, len(hadamard))
        matrix = hadamard[:size, :size]
        if within == 1:
            torch.mm(x.view(-1, size), matrix, out=into.view(-1, size))
        else:
            blocks = x.view(-1, size, within)
            torch.bmm(matrix.expand(len(blocks), -1, -1), blocks, out=into.view_as(blocks))
        x, into, other = into, other, into
        within *= size
    return x


class Projected(Hooked):
    """A model whose weights are changed whenever a module uses its own."""

    mergeable = True
    alone = True

    def __init__(self, model: nn.Module, space: Subspace, weights: list[nn.Parameter]) -> None:
        super().__init__(model, space)
        self._space = space
        self._weights = weights
        self._changed: list[tuple[nn.Module, dict[str, Any]]] = []
        for module, numbers in self._owners():
            self._hook(module, numbers)

    def _owners(self) -> Iterator[tuple[nn.Module, dict[str, int]]]:
        """Modules with chosen weights of their own: attribute -> number. Tied weights have several owners."""
        number_of = {id(weight): number for number, weight in enumerate(self._weights)}
        for module in self.model.modules():
            own = {name: number_of[id(each)] for name, each in module._parameters.items() if id(each) in number_of}
            if own:
                yield module, own

    def _hook(self, module: nn.Module, numbers: Mapping[str, int]) -> None:
        def before(_: nn.Module, __: Any) -> None:
            weights: dict[str, Any] = {name: module._parameters[name] for name in numbers}
            changed: dict[str, Any] = {name: self._space.changed(numbers[name], weights[name]) for name in numbers}
            self._changed.append((module, weights))
            module._parameters.update(changed)

        def after(_: nn.Module, __: Any, ___: Any) -> None:
            if self._changed and self._changed[-1][0] is module:
                module._parameters.update(self._changed.pop()[1])

        self._handles.append(module.register_forward_pre_hook(before))
        self._handles.append(module.register_forward_hook(after, prepend=True, always_call=True))

    def moves(self) -> Iterable[nn.Parameter]:
        return self._weights

    def merge(self) -> None:
        with torch.no_grad():
            for number, weight in enumerate(self._weights):
                weight.copy_(self._space.changed(number, weight))
