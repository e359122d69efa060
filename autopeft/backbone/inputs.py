"""What a model is called with where there is no data yet: made-up rows of what it reads, told by `main_input_name`.

Token ids come with their mask; images are as large as the configuration says, with as many channels.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from autopeft.errors import CannotAttach

_TOKEN = 5
_READ = {"input_ids": "token ids", "pixel_values": "images"}


def reads(model: nn.Module) -> str:
    """The name of a model's main input, such as `input_ids` or `pixel_values`."""
    return str(getattr(model, "main_input_name", "input_ids"))


def named(model: nn.Module) -> str:
    """What a model reads, for people."""
    return _READ.get(reads(model), reads(model))


def bare(model: nn.Module) -> nn.Module:
    """The part of a model that reads its input and gives states: the model without its head."""
    base = getattr(model, "base_model", model)
    return model if _takes(model, reads(model)) and not _takes(base, reads(model)) else base


def example(model: nn.Module, rows: int, length: int, device: torch.device | str = "cpu") -> Mapping[str, Tensor]:
    """Made-up inputs by name: `rows` texts of `length` tokens, or as many images, whose size is not chosen here.

    Raises CannotAttach for a model that reads something else.
    """
    if reads(model) == "input_ids":
        ids = torch.full((rows, length), _TOKEN, device=device)
        return {**written(model, ids), "attention_mask": torch.ones_like(ids)}
    if reads(model) == "pixel_values":
        config: Any = getattr(model, "config", None)
        size = getattr(config, "image_size", None)
        if size is None:
            raise CannotAttach(f"the configuration of {type(model).__name__} does not say how large its images are.")
        height, width = size if isinstance(size, Iterable) else (size, size)
        dtype = next((each.dtype for each in model.parameters() if each.is_floating_point()), torch.float32)
        shape = (rows, getattr(config, "num_channels", 3), height, width)
        return {"pixel_values": torch.zeros(shape, dtype=dtype, device=device)}
    raise CannotAttach(f"{type(model).__name__} reads '{reads(model)}', neither token ids nor images.")


def is_crossed(model: nn.Module) -> bool:
    """Whether a model has a decoder that looks at an encoder, both of which are there."""
    config: Any = getattr(model, "config", None)
    return bool(getattr(config, "is_encoder_decoder", False)) and hasattr(bare(model), "decoder")


def written(model: nn.Module, ids: Tensor) -> Mapping[str, Tensor]:
    """What a model is called with that these tokens are written by: where it has an encoder, that reads the first."""
    if not is_crossed(model):
        return {"input_ids": ids}
    return {"input_ids": torch.zeros_like(ids), "decoder_input_ids": ids}


def _takes(model: nn.Module, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters
