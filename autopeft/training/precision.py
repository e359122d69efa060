"""Which precision a device trains in: bf16 autocast where the hardware computes in bf16, else fp32."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

BFLOAT16, FLOAT32 = PRECISIONS = ("bfloat16", "float32")


def precision_of(device: torch.device) -> str:
    """What forward passes on a device are computed in, by the name of the dtype."""
    return BFLOAT16 if has_bf16(device) else FLOAT32


def autocast(device: torch.device, precision: str = BFLOAT16) -> torch.autocast:
    """A context for forward passes; does nothing in fp32, and where bf16 is not computed natively."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == BFLOAT16 and has_bf16(device))


def forward(module: nn.Module, inputs: Mapping[str, Tensor], device: torch.device, precision: str = BFLOAT16) -> Tensor:
    """What a module gives for inputs on its device, in fp32 however it was computed: as in training, or in fp32."""
    with autocast(device, precision):
        output: Tensor = module(inputs)
    return output.float()


def has_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 are native: CUDA since Ampere, x86 with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
