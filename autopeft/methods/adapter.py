"""Bottleneck adapters, A(x) = U act(D x + b_D) + b_U, at four placements.

- `houlsby`: after the attention and after the feed-forward sub-layer, before the residual sum: o + A(o), f + A(f)
  (Houlsby et al. 2019, arXiv:1902.00751, section 2.1).
- `pfeiffer`: after the feed-forward sub-layer's residual sum, normalised again: with u = LN(f + h), LN(f + h + A(u))
  (Pfeiffer et al. 2021, arXiv:2005.00247; AdapterHub's `seq_bn`). Pre-norm layers: h + A(h) at the layer's output.
- `parallel`: f + scale A(x), where x is the feed-forward sub-layer's input (He et al. 2022, arXiv:2110.04366,
  section 4.6).
- `scaled_parallel`: the same with one learned scale per layer, starting at `scale`.

U starts at zero, so that the model's output is unchanged at first. Houlsby's trained layer norms are a method of their
own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from autopeft.backbone.sites import Layers, Place, Sites
from autopeft.errors import AutopeftError, CannotAttach, unknown
from autopeft.methods.base import Attachment, Method
from autopeft.methods.hooked import Hooked, host, undone_on_error

Placement = Literal["houlsby", "pfeiffer", "parallel", "scaled_parallel"]


class Bottleneck(nn.Module):
    """(…, width) -> (…, width): scale * (U act(D x + b_D) + b_U)."""

    def __init__(self, width: int, bottleneck: int, activation: str, scale: float, learned: bool) -> None:
        super().__init__()
        down, up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.zeros_(down.bias)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        self.down: nn.Module = down
        self.up: nn.Module = up
        self.activation: Callable[[Tensor], Tensor] = ACT2FN[activation]
        self.scale: float | nn.Parameter = nn.Parameter(torch.tensor([float(scale)])) if learned else scale

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(self.activation(self.down(x)))
        return y * self.scale


@dataclass(frozen=True)
class Adapter(Method):
    """A bottleneck adapter in every chosen layer."""

    bottleneck: int = 64
    """Width of the bottleneck."""
    placement: Placement = "pfeiffer"
    """Where it sits: houlsby, pfeiffer, parallel or scaled_parallel."""
    activation: str = "gelu"
    """Name of a transformers activation, such as gelu or relu."""
    scale: float = 1.0
    """Factor on the adapter's output; where it starts when learned."""
    layers: Layers = "all"
    """Layers that get an adapter."""

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise AutopeftError(f"bottleneck must be at least 1, not {self.bottleneck}.")
        if self.placement not in get_args(Placement):
            raise unknown("adapter placement", self.placement, get_args(Placement))
        if self.activation not in ACT2FN:
            raise unknown("activation", self.activation, ACT2FN)

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        module = nn.ModuleDict()
        with undone_on_error(Hooked(model, module)) as attached:
            self._place(attached, module, sites)
        return attached

    def _place(self, attached: Hooked, module: nn.ModuleDict, sites: Sites) -> None:
        """Fills `module` with adapters, and hooks them into the model."""
        for site in ("attention", "ffn") if self.placement == "houlsby" else ("ffn",):
            for place in sites.at(site, self.layers):
                adapter = self._adapter(attached.model, sites.layers[place.layer], place.width)
                module[f"{place.layer}_{site}"] = adapter
                self._hook(attached, place, sites, adapter)

    def _adapter(self, model: nn.Module, layer: str, width: int) -> Bottleneck:
        device, dtype = host(model, layer)
        learned = self.placement == "scaled_parallel"
        with torch.device(device):
            return Bottleneck(width, self.bottleneck, self.activation, self.scale, learned).to(dtype)

    def _hook(self, attached: Hooked, place: Place, sites: Sites, adapter: Bottleneck) -> None:
        if self.placement == "houlsby":
            attached.on_output(place.path, lambda y: y + adapter(y))
        elif self.placement != "pfeiffer":
            if not place.source:
                raise CannotAttach(
                    f"a {self.placement} adapter needs to know what enters the feed-forward: map 'ffn.up'."
                )
            attached.between(place.source, place.path, lambda x, y: y + adapter(x))
        elif place.norm:
            attached.before_norm(place.norm, adapter)
        else:
            attached.on_output(sites.at("layer", [place.layer])[0].path, lambda h: h + adapter(h))
