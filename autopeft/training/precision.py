"""In which dtype a backbone is held, and what is computed in.

Weights that are held in half a number's width are computed with in that dtype, on any device. With weights in fp32 it
is bf16 where the hardware computes in bf16, else on CUDA fp16 with a scaled loss, and fp32 on other CPUs. Beside
quantised matrices weights are held in what is computed in. What is trained is held in fp32 always.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from autopeft.backbone.held import HALF, held_in, name_of
from autopeft.backbone.quantised import PACKED_FROM
from autopeft.errors import unknown
from autopeft.plan import AUTO, DTYPES, QUANTISED

BFLOAT16, FLOAT16, FLOAT32 = PRECISIONS = ("bfloat16", "float16", "float32")


def held_as(wanted: str | torch.dtype, device: torch.device | None = None) -> torch.dtype:
    """The dtype that is meant, also by `auto`: bf16 on GPUs that have it, else fp32; by default on what is here. Where
    matrices are quantised it is that of all else: bf16, but fp32 on a device that is named and emulates bf16.

    Raises AutopeftError for another.
    """
    name = str(wanted).removeprefix("torch.")
    if name not in (*DTYPES, *QUANTISED):
        raise unknown("dtype", name, (*DTYPES, *QUANTISED))
    if name in QUANTISED:
        return torch.float32 if device and is_emulated(PACKED_FROM, device) else PACKED_FROM
    if name == AUTO:
        device = device or device_here()
        name = BFLOAT16 if device.type == "cuda" and has_bf16(device) else FLOAT32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def device_here() -> torch.device:
    """Where this process computes."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def packed_as(wanted: str | torch.dtype) -> str | None:
    """How matrices are quantised that are held so; None where they are not."""
    return str(wanted) if wanted in QUANTISED else None


def precision_of(device: torch.device, held: torch.dtype = torch.float32) -> str:
    """What forward passes on a device are computed in with weights held so, by the name of the dtype."""
    if held in HALF:
        return name_of(held)
    if has_bf16(device):
        return BFLOAT16
    return FLOAT16 if device.type == "cuda" else FLOAT32


def repeated(precision: str, device: torch.device, held: torch.dtype) -> str:
    """The precision in which something was measured, where this device computes in it with weights held so."""
    here = precision_of(device, held)
    return precision if precision == FLOAT32 and held not in HALF else here


def autocast(device: torch.device, precision: str | None = None) -> torch.autocast:
    """A context for forward passes, by default those with weights in fp32; does nothing in fp32."""
    precision = precision or precision_of(device)
    half = torch.float16 if precision == FLOAT16 else torch.bfloat16
    return torch.autocast(device.type, half, enabled=precision != FLOAT32)


def forward(
    module: nn.Module, inputs: Mapping[str, Tensor], device: torch.device, precision: str | None = None
) -> Tensor:
    """What a module gives for inputs on its device, in fp32 however it was computed: as in training, or as is said."""
    held = getattr(module, "held", None) or held_in(module)
    with autocast(device, precision or precision_of(device, held)):
        output: Tensor = module(inputs)
    return output.float()


def scaler_of(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """What keeps gradients from vanishing in fp16; does nothing in other precisions."""
    return torch.amp.GradScaler(device.type, enabled=precision == FLOAT16)


def has_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 are native: CUDA since Ampere, x86 with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def is_emulated(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether products in it are made by way of fp32: those of CPUs without bf16 take some eight times as long."""
    return dtype in HALF and device.type == "cpu" and not has_bf16(device)
