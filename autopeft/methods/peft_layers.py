"""peft's methods beside one another on one model: which layers are whose, and that all of them take part.

peft itself knows of one at a time: it silences an earlier method of the same kind, and computes with the bare weight
where a layer lies around another's.
"""

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.random import fork_rng

from autopeft.errors import CannotAttach


def tuner_layers(model: nn.Module) -> list[Any]:
    """The layers that peft put in the place of a model's own."""
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def adapters(layer: Any) -> Iterable[str]:
    """Names of the methods that a tuner's layer belongs to."""
    names: list[str] = layer._all_available_adapter_names()
    return names


def kind(layer: Any) -> str:
    """What peft calls the tuner of a layer, by its folder."""
    return type(layer).__module__.split(".")[-2]


def freeze_beside(layers: Iterable[Any]) -> None:
    """What layers keep beside their weights is not trained: peft forgets that where it casts it to another dtype."""
    for layer in layers:
        for name in layer.other_param_names:
            if isinstance(beside := getattr(layer, name, None), nn.ParameterDict):
                beside.requires_grad_(False)


def require_different_names(model: nn.Module) -> None:
    """Two kinds of tuners that call weights alike (AdaLoRA, LoRA) take each other's for their own."""
    kinds = {frozenset(type(layer).adapter_layer_names): kind(layer) for layer in tuner_layers(model)}
    for one, other in combinations(kinds, 2):
        if one & other:
            both = " and ".join(sorted((kinds[one], kinds[other])))
            raise CannotAttach(f"peft's {both} call their weights alike: only one of them goes on a model.")


def activate_all(model: nn.Module) -> None:
    """Lets every peft method on the model take part: peft itself would silence an earlier one of the same kind."""
    for path, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            names = list(adapters(module))
            if len(names) > 1:
                raise CannotAttach(f"two methods of the same kind cannot share {path}: give one of them other sites.")
            module.set_adapter(names)
    for layer in tuner_layers(model):
        layer.train(model.training)


def require_that_covered_layers_run(layers: Iterable[Any]) -> None:
    """A layer around another method's must call it: one that computes with the bare weight would silence it."""
    for layer in layers:
        if not isinstance(layer.base_layer, BaseTunerLayer):
            continue
        covered: Any = layer.base_layer
        weight = layer.get_base_layer().weight
        calls: list[nn.Module] = []
        handle = covered.register_forward_hook(lambda module, *_, calls=calls: calls.append(module))
        try:
            with torch.no_grad(), fork_rng(devices=[]):
                layer(torch.zeros(1, 1, layer.in_features, dtype=weight.dtype, device=weight.device))
        finally:
            handle.remove()
        if not calls:
            outer, inner = kind(layer), kind(covered)
            raise CannotAttach(f"peft's {outer} does not go around its {inner}: it would leave that out.")
