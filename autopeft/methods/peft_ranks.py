"""What peft's AdaLoRA goes by while it gives up ranks: averages of how much each weight matters, and the ranks that are
left. It keeps them beside the model, so a training that goes on elsewhere has to bring them along.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
_PATTERN = "rank_pattern"


def ranks(allocator: Any, config: Any) -> Mapping[str, Tensor]:
    """By name, `:` and the name of the weight."""
    averages = {f"{name}:{weight}": each for name in _AVERAGES for weight, each in getattr(allocator, name).items()}
    pattern = getattr(config, _PATTERN) or {}
    return averages | {f"{_PATTERN}:{weight}": torch.tensor(left) for weight, left in pattern.items()}


def take_up_ranks(allocator: Any, config: Any, state: Mapping[str, Tensor], device: torch.device) -> None:
    """Lets a new allocator go by what another one did."""
    by_name: dict[str, dict[str, Tensor]] = {name: {} for name in (*_AVERAGES, _PATTERN)}
    for key, tensor in state.items():
        name, _, weight = key.partition(":")
        by_name[name][weight] = tensor
    for name in _AVERAGES:
        setattr(allocator, name, {weight: each.to(device, copy=True) for weight, each in by_name[name].items()})
    if by_name[_PATTERN]:
        setattr(config, _PATTERN, {weight: left.tolist() for weight, left in by_name[_PATTERN].items()})
