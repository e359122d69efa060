"""What peft's tuners want of the values of a backbone's weights: to begin from them, and to take a part of them away.

A tuner that decomposes weights cannot be made on a model without values (the skeleton of a prediction): there it gets
random ones to look at. PiSSA begins with the weight's own directions and takes them off the weight, so that the output
stays (Meng et al. 2024, arXiv:2404.02948): what it took is put back on `detach`, and saved is the ordinary LoRA of
twice the rank that holds the trained factors and, with the other sign, those it began with.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import transpose
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autopeft.backbone.quantised import format_of
from autopeft.errors import CannotAttach
from autopeft.methods.in_place import kept
from autopeft.methods.peft_config import WRAPPED

_OTHERS_THAT_TAKE = ("olora", "corda", "lora_ga", "loftq")
"""Values of `init_lora_weights` that change weights in other ways, some of them without a trace."""
_A, _B = ".lora_A.weight", ".lora_B.weight"


@contextmanager
def stand_ins(model: nn.Module, paths: Sequence[str]) -> Iterator[None]:
    """While it lasts, the modules at `paths` of a model without values hold random ones, on the CPU."""
    bare = [_bare(each) for path, each in model.named_modules() if _is_meant(path, paths)]
    before = [dict(module._parameters) for module in bare]
    try:
        with torch.device("cpu"):
            for module in bare:
                for name, own in module.named_parameters(recurse=False):
                    module._parameters[name] = nn.Parameter(torch.randn(own.shape, dtype=own.dtype), own.requires_grad)
            yield
    finally:
        for module, own_before in zip(bare, before, strict=True):
            module._parameters.update(own_before)


class Taken:
    """What a LoRA took off the weights that it adapts, to begin with."""

    def __init__(self, model: nn.Module, paths: Sequence[str]) -> None:
        """Before the LoRA is there."""
        self._model = model
        self._weights = {path: _bare(model.get_submodule(path)).weight for path in paths}
        self._before = {path: kept(weight) for path, weight in self._weights.items()}
        self._layers: Mapping[str, Any] = {}
        self._name = ""
        self._factors: dict[str, tuple[Tensor, Tensor]] = {}

    def began(self, name: str) -> None:
        """The LoRA called `name` is there, and nothing is trained yet."""
        self._layers = {path: self._model.get_submodule(path) for path in self._weights}
        self._name = name
        for path, layer in self._layers.items():
            self._factors[path] = kept(layer.lora_A[name].weight), kept(layer.lora_B[name].weight)

    def shipped(self) -> Mapping[str, Tensor]:
        """The factors that it began with, by the names that they have in a saved file."""
        return {
            f"{path}.start{end}": factor
            for path, both in self._factors.items()
            for end, factor in zip((_A, _B), both, strict=True)
        }

    def added_to(self, folder: Path) -> None:
        """Makes of what peft saved a LoRA on the weights as they were."""
        file, description = folder / "adapter_model.safetensors", folder / "adapter_config.json"
        tensors = load_file(file)
        for path, prefix in self._saved_as():
            a, b = self._factors[path]
            tensors[prefix + _A] = torch.cat([tensors[prefix + _A], a])
            tensors[prefix + _B] = torch.cat([tensors[prefix + _B], -b], dim=1)
        save_file(tensors, file, {"format": "pt"})
        config = json.loads(description.read_text(encoding="utf-8"))
        config["r"] *= 2
        config["lora_alpha"] *= math.sqrt(2) if config["use_rslora"] else 2
        config["init_lora_weights"] = True
        description.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def found_in(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The trained factors in a saved file; those it began with become this one's, and are taken off the weights.

        Raises KeyError when they are not there.
        """
        trained = dict(tensors)
        for path, prefix in self._saved_as():
            a, b = tensors[prefix + _A], tensors[prefix + _B]
            rank = len(a) // 2
            trained[prefix + _A], trained[prefix + _B] = a[:rank].contiguous(), b[:, :rank].contiguous()
            self._factors[path] = a[rank:].contiguous(), -b[:, rank:]
            self._take_off(path)
        return trained

    def _saved_as(self) -> Iterator[tuple[str, str]]:
        """Where each layer was put, and where it is now in what peft saves: others may be around it."""
        paths = {module: path for path, module in self._model.named_modules()}
        return ((path, WRAPPED + paths[layer]) for path, layer in self._layers.items())

    def _take_off(self, path: str) -> None:
        """As peft does it, to the last bit."""
        weight, layer = self._weights[path], self._layers[path]
        a, b = (factor.to(weight.device) for factor in self._factors[path])
        whole = transpose(self._before[path].to(weight.device, torch.float32), layer.fan_in_fan_out)
        left = whole - layer.scaling[self._name] * b @ a
        weight.data = transpose(left.to(weight.dtype), layer.fan_in_fan_out)

    def put_back(self) -> None:
        """Gives the weights what they had."""
        for path, before in self._before.items():
            weight = self._weights[path]
            weight.data = before.to(weight.device)

    def leave(self) -> None:
        """The weights have become others for good: nothing is to be put back."""
        self._before.clear()


def taken_by(config: Any, model: nn.Module) -> Taken | None:
    """For a config that has just been made: what it will take off the model's weights; None where that is nothing.

    On a model without values nothing is decomposed.
    """
    start = getattr(config, "init_lora_weights", True)
    if start in _OTHERS_THAT_TAKE:
        raise CannotAttach(f"a LoRA that starts as '{start}' would change the backbone for good: take 'pissa'.")
    if not str(start).startswith("pissa"):
        return None
    if format := format_of(model):
        raise CannotAttach(f"a LoRA that starts as '{start}' takes something off the matrices, which {format} packs.")
    if next(model.parameters()).is_meta:
        config.init_lora_weights = True
    return Taken(model, sorted(config.target_modules))


def _is_meant(path: str, names: Sequence[str]) -> bool:
    """By peft's rule: a path as it is, or its end."""
    return any(path == name or path.endswith(f".{name}") for name in ([names] if isinstance(names, str) else names))


def _bare(module: Any) -> Any:
    """The backbone's own module, also where tuners are around it."""
    return module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
