"""What one of peft's methods adds to weights, as the two factors of a LoRA: peft's own conversion, which decomposes it.

All layers get one rank, because servers read one: the least that keeps `KEPT` of each change, or all of that of the
smallest layer.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import peft
from torch import Tensor, nn

from autopeft.errors import CannotMerge
from autopeft.methods.peft_config import WRAPPED

KEPT = 0.9999
"""Of the squared singular values of a change, at least."""
_A, _B = ".lora_A.weight", ".lora_B.weight"


def factors_of(model: nn.Module, name: str, layers: Iterable[Any]) -> Mapping[str, tuple[Tensor, Tensor]]:
    """By a module's path, (rank, features in) and (features out, rank). Raises CannotMerge where peft knows no way."""
    try:
        needed = [len(each) for path, each in _converted(model, name, KEPT).items() if path.endswith(_A)]
        smallest = min(min(layer.in_features, layer.out_features) for layer in layers)
        tensors = _converted(model, name, min(max(needed), smallest))
    except (TypeError, ValueError, AttributeError) as error:
        raise CannotMerge("this method cannot be written as a LoRA: peft's conversion does not cover it.") from error
    paths = [each.removesuffix(_A) for each in tensors if each.endswith(_A)]
    return {path: (tensors[path + _A], tensors[path + _B]) for path in paths}


def _converted(model: nn.Module, name: str, rank: float) -> Mapping[str, Tensor]:
    _, tensors = peft.convert_to_lora(model, rank, adapter_name=name)
    return {each.removeprefix(WRAPPED): tensor for each, tensor in tensors.items()}
