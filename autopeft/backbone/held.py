"""How a model's weights are held: in which dtype, and what of it that is.

Weights alone are held in half a number's width: frequencies of positions and the like, which are no part of a
checkpoint, stay exact.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from autopeft.files import appearing

HALF = (torch.bfloat16, torch.float16)
_STORED = {"BF16": torch.bfloat16, "F16": torch.float16}
"""What safetensors calls them."""
_LONGEST_HEADER = 100_000_000
"""Bytes, as in safetensors itself."""


def name_of(dtype: torch.dtype) -> str:
    """A dtype as plans and files call it."""
    return str(dtype).removeprefix("torch.")


def held_in(model: nn.Module) -> torch.dtype:
    """What the first of a model's floating-point weights is held in, before anything is attached; else fp32."""
    return next((each.dtype for each in model.parameters() if each.is_floating_point()), torch.float32)


def hold(model: nn.Module, dtype: torch.dtype) -> None:
    """Holds a model's weights in this dtype, one after the other."""
    for tensor in model.state_dict(keep_vars=True).values():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


def hold_mapped(model: nn.Module, dtype: torch.dtype, file: Path) -> None:
    """The same, mapped from a file, which is made where there is none: whoever reads it too shares the memory."""
    different = {id(each): (name, each) for name, each in model.state_dict(keep_vars=True).items()}
    own = {name: each for name, each in different.values() if each.is_floating_point()}
    if not file.is_file():
        with appearing(file) as temporary:
            save_file({name: each.detach().to(dtype).contiguous() for name, each in own.items()}, temporary)
    for name, tensor in load_file(file).items():
        own[name].data = tensor


@contextmanager
def holding(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Holds a model's weights in this dtype while it lasts."""
    before = {name: tensor.data for name, tensor in model.state_dict(keep_vars=True).items()}
    hold(model, dtype)
    try:
        yield
    finally:
        for name, tensor in model.state_dict(keep_vars=True).items():
            tensor.data = before[name]


def is_exact(model: nn.Module) -> bool:
    """Whether all that is no part of a checkpoint is held in full width."""
    own = model.state_dict().keys()
    return not any(buffer.dtype in HALF for name, buffer in model.named_buffers() if name not in own)


def stored_in(files: Sequence[Path]) -> torch.dtype:
    """The dtype in which safetensors files can be read and nothing be lost: a half one where all of it is that."""
    names = {name for file in files for name in _dtypes(file)}
    return _STORED.get(names.pop(), torch.float32) if len(names) == 1 else torch.float32


def _dtypes(file: Path) -> Iterator[str]:
    """Of floating-point tensors, by the file's header; none of a file that is damaged, which loading it says better."""
    try:
        with file.open("rb") as opened:
            (size,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(min(size, _LONGEST_HEADER)))
        yield from (each["dtype"] for name, each in header.items() if name != "__metadata__" and "F" in each["dtype"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return
