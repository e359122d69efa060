"""What methods share that train parameters which the backbone has already: which those are, and putting them back."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from autopeft.backbone.inputs import bare
from autopeft.backbone.sites import Sites
from autopeft.methods.hooked import Hooked


class TrainedInPlace(Hooked):
    """Existing parameters of the model, trained where they are and put back on `detach`, from copies on the CPU."""

    mergeable = True

    def __init__(self, model: nn.Module, chosen: Mapping[str, nn.Parameter]) -> None:
        super().__init__(model, nn.Module())
        self._chosen = chosen
        self._before = {name: kept(parameter) for name, parameter in chosen.items()}

    def trainable(self) -> Mapping[str, nn.Parameter]:
        return self._chosen

    def selects(self) -> Iterable[nn.Parameter]:
        return self._chosen.values()

    def merge(self) -> None:
        """The trained values are the model's own already; `detach` will no longer undo them."""
        self._before.clear()

    def detach(self) -> None:
        super().detach()
        with torch.no_grad():
            for name, value in self._before.items():
                self._chosen[name].copy_(value)


def kept(tensor: Tensor) -> Tensor:
    """A copy that takes no memory of the tensor's device: on the CPU, or without values where the tensor has none."""
    return tensor.detach().to("meta" if tensor.is_meta else "cpu", copy=True)


def used_parameters(model: nn.Module, sites: Sites) -> set[int]:
    """Ids of the backbone's own parameters that its output depends on, whatever peft put around them."""
    named = bare(model).named_parameters()
    return {id(parameter) for name, parameter in named if name.replace(".base_layer", "") not in sites.idle}


def own_parameters(model: nn.Module, sites: Sites, *paths: str) -> dict[str, nn.Parameter]:
    """The backbone's own parameters in the modules at `paths`, each once, by the names they have without peft's layers.

    Nothing that other methods added, nothing of a task head, and nothing that the output does not depend on, is among
    them.
    """
    left = used_parameters(model, sites)
    found = {}
    for path in paths:
        for name, parameter in _parameters(model.get_submodule(path), path):
            if id(parameter) in left and parameter.is_floating_point() and parameter.numel():
                left.remove(id(parameter))
                found[name] = parameter
    return found


def unadapted_parameters(model: nn.Module, sites: Sites) -> dict[str, nn.Parameter]:
    """All of the backbone's own parameters but those in layers that one of peft's methods adapts."""
    adapted = [f"{path}." for path, module in model.named_modules() if hasattr(module, "base_layer")]
    own = own_parameters(model, sites, "")
    return {name: each for name, each in own.items() if not name.startswith(tuple(adapted))}


def _parameters(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Parameter]]:
    covered = getattr(module, "base_layer", None)
    if isinstance(covered, nn.Module):
        yield from _parameters(covered, path)
        return
    prefix = f"{path}." if path else ""
    for name, parameter in module.named_parameters(recurse=False):
        yield prefix + name, parameter
    for name, child in module.named_children():
        yield from _parameters(child, prefix + name)
