"""Compacter: bottleneck adapters with weights of few numbers (Karimi Mahabadi et al. 2021, arXiv:2106.04647).

o + A(o) after the sub-layers, before the residual sum, with A(x) = act(x D + b_D) U + b_U in rows. D and U are sums of
Kronecker products, W = Σ_i R_i ⊗ (s_i t_i), i to n (section 3): the n matrices R_i (n, n) are one tensor that all
adapters share, s_i (in / n, rank) and t_i (rank, out / n) are each layer's own. Starts so small that the model's output
is practically unchanged. The layer norms that the paper trains beside it are a method of their own.
"""

import math
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

Placement = Literal["compacter", "compacter++"]
_RULE_SPREAD = 1e-4


class HypercomplexLinear(nn.Module):
    """(…, features) -> (…, outputs): x W + b with W = Σ_i R_i ⊗ (s_i t_i), which is never formed."""

    def __init__(self, features: int, outputs: int, factor: int, rank: int) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.empty(factor, features // factor, rank))
        self.right = nn.Parameter(torch.empty(factor, rank, outputs // factor))
        self.bias = nn.Parameter(torch.zeros(outputs))
        for number in range(factor):
            nn.init.xavier_uniform_(self.left[number], gain=math.sqrt(2))
            nn.init.xavier_uniform_(self.right[number], gain=math.sqrt(2))

    def forward(self, x: Tensor, rule: Tensor) -> Tensor:
        factor, _, rank = self.left.shape
        rows = x.reshape(*x.shape[:-1], factor, -1) @ self.left.transpose(0, 1).flatten(1)
        rows = rows.reshape(*rows.shape[:-1], factor, rank)
        mixed = torch.einsum("...pir,ipq->...qir", rows, rule).flatten(-2)
        return (mixed @ self.right.flatten(0, 1)).flatten(-2) + self.bias


class CompactBottleneck(nn.Module):
    """(…, width) -> (…, width): act(x D + b_D) U + b_U."""

    def __init__(self, width: int, bottleneck: int, factor: int, rank: int, activation: str) -> None:
        super().__init__()
        self.down = HypercomplexLinear(width, bottleneck, factor, rank)
        self.up = HypercomplexLinear(bottleneck, width, factor, rank)
        self.activation: Callable[[Tensor], Tensor] = ACT2FN[activation]

    def forward(self, x: Tensor, rule: Tensor) -> Tensor:
        y: Tensor = self.up(self.activation(self.down(x, rule)), rule)
        return y


class CompactBottlenecks(nn.ModuleDict):
    """Adapters by layer and site, and `rule`, the R (n, n, n) of them all."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.rule = nn.Parameter(_RULE_SPREAD * torch.randn(factor, factor, factor))


@dataclass(frozen=True)
class Compacter(Method):
    """A compact adapter in every chosen layer."""

    bottleneck: int = 24
    """Width of the bottleneck; a multiple of `factor`."""
    factor: int = 4
    """n: how many Kronecker products a weight is the sum of, and the size of their shared factors."""
    rank: int = 1
    """Rank of the factors that each layer has for itself."""
    placement: Placement = "compacter"
    """compacter: after attention and feed-forward; compacter++: after the feed-forward only."""
    activation: str = "gelu_new"
    """Name of a transformers activation, such as gelu or relu."""
    layers: Layers = "all"
    """Layers that get an adapter."""

    def __post_init__(self) -> None:
        for name in ("bottleneck", "factor", "rank"):
            if getattr(self, name) < 1:
                raise AutopeftError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.bottleneck % self.factor:
            raise AutopeftError(f"bottleneck must be a multiple of factor {self.factor}, not {self.bottleneck}.")
        if self.placement not in get_args(Placement):
            raise unknown("compacter placement", self.placement, get_args(Placement))
        if self.activation not in ACT2FN:
            raise unknown("activation", self.activation, ACT2FN)

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        names = ("attention", "ffn") if self.placement == "compacter" else ("ffn",)
        places = [(site, place) for site in names for place in sites.at(site, self.layers)]
        device, dtype = host(model, sites.layers[places[0][1].layer])
        with torch.device(device):
            module = CompactBottlenecks(self.factor).to(dtype)
        with undone_on_error(Hooked(model, module)) as attached:
            for site, place in places:
                adapter = self._adapter(model, sites.layers[place.layer], place.width)
                module[f"{place.layer}_{site}"] = adapter
                self._hook(attached, place, adapter, module)
        return attached

    def _hook(self, attached: Hooked, place: Place, adapter: CompactBottleneck, module: CompactBottlenecks) -> None:
        attached.on_output(place.path, lambda y: y + adapter(y, module.rule))

    def _adapter(self, model: nn.Module, layer: str, width: int) -> CompactBottleneck:
        if width % self.factor:
            raise CannotAttach(f"factor {self.factor} does not divide the {width} features of {layer}.")
        device, dtype = host(model, layer)
        with torch.device(device):
            return CompactBottleneck(width, self.bottleneck, self.factor, self.rank, self.activation).to(dtype)
