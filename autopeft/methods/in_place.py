"""What methods share that train parameters which the backbone has already: which those are, and putting them back."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from autopeft.backbone.held import HALF
from autopeft.backbone.inputs import bare
from autopeft.backbone.sites import Sites
from autopeft.methods.hooked import Hooked


class TrainedInPlace(Hooked):
    """Existing parameters of the model, trained where they are and put back on `detach`, from copies on the CPU.

    Those that are held in half of fp32 are held in fp32 meanwhile.
    """

    mergeable = True

    def __init__(self, model: nn.Module, chosen: Mapping[str, nn.Parameter], module: nn.Module | None = None) -> None:
        """`module` holds weights that are trained beside them; None: there are none."""
        super().__init__(model, nn.Module() if module is None else module)
        self._chosen = chosen
        self._before = {name: kept(parameter) for name, parameter in chosen.items()}
        self._handles += widened(model, chosen.values())

    def trainable(self) -> Mapping[str, nn.Parameter]:
        return self._chosen

    def selects(self) -> Iterable[nn.Parameter]:
        return self._chosen.values()

    def merge(self) -> None:
        """The trained values are the model's own already; `detach` will no longer undo them."""
        for name, value in self._before.items():
            self._chosen[name].data = self._chosen[name].data.to(value.dtype)
        self._before.clear()

    def detach(self) -> None:
        super().detach()
        put_back(self._chosen, self._before)


def widened(model: nn.Module, chosen: Iterable[nn.Parameter]) -> list[RemovableHandle]:
    """Holds parameters in fp32 that are held in half of it. While a module of the model runs that has such ones, it
    has them in half as before, and gives states as it did.
    """
    halved = {id(parameter): parameter.dtype for parameter in chosen if parameter.dtype in HALF}
    handles: list[RemovableHandle] = []
    for owner in model.modules():
        own = {name: each for name, each in owner._parameters.items() if each is not None and id(each) in halved}
        for parameter in own.values():
            parameter.data = parameter.data.float()
        if own:
            handles += _in_half(owner, {name: halved[id(each)] for name, each in own.items()})
    return handles


def _in_half(owner: nn.Module, own: Mapping[str, torch.dtype]) -> list[RemovableHandle]:
    """Its parameters are looked up when it runs, because a simulated step swaps them."""
    held: list[dict[str, Any]] = []

    def before(*_: Any) -> None:
        held.append({name: owner._parameters[name] for name in own})
        owner._parameters.update({name: each.to(own[name]) for name, each in held[-1].items()})

    def after(*_: Any) -> None:
        if held:
            owner._parameters.update(held.pop())

    return [
        owner.register_forward_pre_hook(before),
        owner.register_forward_hook(after, prepend=True, always_call=True),
    ]


def put_back(parameters: Mapping[str, nn.Parameter], before: Mapping[str, Tensor]) -> None:
    """Gives parameters the values, and the dtype, that were kept."""
    for name, value in before.items():
        own = parameters[name].data
        parameters[name].data = own.copy_(value) if own.dtype == value.dtype else value.to(own.device)


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
