"""Backbones whose matrices are held in 4 or 8 bits: bitsandbytes packs them, and unpacks one while it is used.

The matrices of all linear maps are packed, but for a language model's output embedding, from bfloat16, so that they are
the same wherever they are used. All else is held in the dtype in which everything is computed there, and matrices are
unpacked in it. Of nf4 each entry has 4 bits, every 64 of them a scale of 8 bits, and every 256 scales
one of 32 bits (double quantisation: Dettmers et al. 2023, arXiv:2305.14314); of int8 an entry has 8 bits, and every row
32 bits more (Dettmers et al. 2022, arXiv:2208.07339). States are never quantised, so that a model is judged as it was
trained, and on every device alike; bitsandbytes' own int8 layers do that to them on CUDA.

A layer is a Linear to whoever looks at it, and its `weight` a copy that is unpacked when somebody asks for it: what
computes with it can, what changes it changes nothing. Methods that need to are refused before (`quantised` in what they
lack). A model without values (a skeleton) is packed without bitsandbytes, and takes as much memory in a simulated step.
"""

import logging
import math
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from autopeft.errors import unknown

PACKED_FROM = torch.bfloat16
"""What everything else is held in, too, but where it computes slowly."""
_BLOCK, _SCALES = 64, 256
"""Entries with one scale, and such scales with one of their own."""
_MOST = 127
"""Of 8 bits with a sign."""


class Packed(nn.Linear):
    """A linear map whose matrix is packed."""

    format = ""
    codes: Tensor
    """The packed entries; int8's are two-dimensional, nf4's two in each of a column."""

    def __init__(self, weight: Tensor, bias: nn.Parameter | None, computed_in: torch.dtype) -> None:
        """`weight` is (features out, features in)."""
        nn.Module.__init__(self)
        self.computed_in = computed_in
        self.out_features, self.in_features = weight.shape
        self.register_parameter("bias", bias)
        self.valueless = weight.is_meta
        """Whether it stands for a map of its shape, and computes nothing."""

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.unpacked()

    def unpacked(self) -> Tensor:
        """The matrix in `computed_in`."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        product: Tensor = _Product.apply(input.to(self.computed_in), self.bias, self)  # type: ignore[no-untyped-call]
        return product

    def _keep(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            # What is no part of a checkpoint is cast by nobody.
            self.register_buffer(name, tensor, persistent=False)


class NF4(Packed):
    """4 bits, double quantisation."""

    format = "nf4"
    codes: Tensor
    scales: Tensor
    scales_of_scales: Tensor
    mean: Tensor

    def __init__(self, weight: Tensor, bias: nn.Parameter | None, computed_in: torch.dtype) -> None:
        super().__init__(weight, bias, computed_in)
        if self.valueless:
            blocks = math.ceil(weight.numel() / _BLOCK)
            codes, scales = _bytes(math.ceil(weight.numel() / 2), 1), _bytes(blocks)
            floats = [torch.empty(shape, device="meta") for shape in (math.ceil(blocks / _SCALES), ())]
            self._keep(codes=codes, scales=scales, scales_of_scales=floats[0], mean=floats[1])
            return
        codes, state = _functional().quantize_4bit(
            weight.contiguous(), blocksize=_BLOCK, compress_statistics=True, quant_type=self.format
        )
        self._keep(codes=codes, scales=state.absmax, scales_of_scales=state.state2.absmax, mean=state.offset)

    @torch.no_grad()
    def unpacked(self) -> Tensor:
        shape = self.out_features, self.in_features
        if self.valueless:
            scales = self.codes.new_zeros(len(self.scales), dtype=torch.float32)
            return torch.zeros(shape, dtype=self.computed_in, device=scales.device)
        functional, table = _functional(), _table(self.codes.device)
        scales = functional.dequantize_blockwise(
            self.scales, absmax=self.scales_of_scales, code=table, blocksize=_SCALES
        )
        state = functional.QuantState(
            scales.add_(self.mean), torch.Size(shape), None, _BLOCK, self.format, dtype=self.computed_in
        )
        matrix: Tensor = functional.dequantize_4bit(self.codes, state)
        return matrix


class Int8(Packed):
    """8 bits, a scale for each row."""

    format = "int8"
    codes: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bias: nn.Parameter | None, computed_in: torch.dtype) -> None:
        super().__init__(weight, bias, computed_in)
        if self.valueless:
            shape = weight.shape
            codes, scales = torch.empty(shape, dtype=torch.int8, device="meta"), torch.empty(len(weight), device="meta")
        else:
            codes, scales, _ = _functional().int8_vectorwise_quant(weight.to(torch.float16))
        self._keep(codes=codes, scales=scales)

    @torch.no_grad()
    def unpacked(self) -> Tensor:
        return self.codes.to(self.computed_in).mul_(self.scales.unsqueeze(1) / _MOST)


FORMATS: Mapping[str, Callable[[Tensor, nn.Parameter | None, torch.dtype], Packed]] = {
    each.format: each for each in (NF4, Int8)
}


def pack(model: nn.Module, format: str) -> None:
    """Packs a model's matrices, one after the other. Raises AutopeftError for another format."""
    if format not in FORMATS:
        raise unknown("quantised dtype", format, FORMATS)
    packed: dict[nn.Module, Packed] = {}
    for owner in [*model.modules()]:
        for name, module in [*owner.named_children()]:
            # What is more than a linear map computes in ways of its own.
            if type(module) in (nn.Linear, Conv1D):
                if module not in packed:
                    packed[module] = _packed(module, format)
                setattr(owner, name, packed[module])


def format_of(model: nn.Module) -> str | None:
    """How a model's matrices are packed; None where they are not."""
    return next((each.format for each in model.modules() if isinstance(each, Packed)), None)


def _packed(module: Any, format: str) -> Packed:
    weight = module.weight.detach()
    matrix = weight.T if isinstance(module, Conv1D) else weight
    packed = FORMATS[format](matrix.to(PACKED_FROM), module.bias, weight.dtype)
    packed.training = module.training
    return packed


class _Product(torch.autograd.Function):
    """states · matrixᵀ + bias. The matrix is unpacked once more on the way back."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, bias: Tensor | None, packed: Packed) -> Tensor:
        ctx.packed = packed
        rows: Tensor = linear(states.reshape(-1, states.shape[-1]), packed.unpacked(), bias)
        # Not as a view of these rows: some of peft's methods add to the output in place.
        whole: Tensor = torch.ops.aten._unsafe_view.default(rows, (*states.shape[:-1], rows.shape[-1]))
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        of_states, of_bias, _ = ctx.needs_input_grad
        return (
            gradient @ ctx.packed.unpacked() if of_states else None,
            gradient.reshape(-1, gradient.shape[-1]).sum(0) if of_bias else None,
            None,
        )


def _bytes(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.uint8, device="meta")


@cache
def _functional() -> Any:
    """When it is imported bitsandbytes would have program code of the hub, by `kernels`, and tells that it has not."""
    told, modules = logging.getLogger("bitsandbytes"), cast(dict[str, Any], sys.modules)
    level, kernels = told.level, modules.get("kernels")
    try:
        told.setLevel(logging.ERROR)
        modules["kernels"] = None
        return import_module("bitsandbytes.functional")
    finally:
        told.setLevel(level)
        modules.pop("kernels")
        if kernels is not None:
            modules["kernels"] = kernels


@cache
def _table(device: torch.device) -> Tensor:
    """What the codes of scales stand for."""
    table: Tensor = _functional().create_dynamic_map().to(device)
    return table
