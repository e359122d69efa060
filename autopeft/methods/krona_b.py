"""KronA^B and KronA^B_res: a linear adapter beside the feed-forward sub-layer (Edalati et al. 2022, arXiv:2212.10650).

f + scale * x (A ⊗ B) in rows, where x is the sub-layer's input, and with `residual` + s x with one learned s per layer.
A is (q, p) and B is (p, q), where p <= q are the two factors of the width that are nearest to each other. B and s start
at zero, so that the model's output is unchanged at first.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autopeft.backbone.sites import Layers, Place, Sites
from autopeft.errors import CannotAttach
from autopeft.methods.base import Attachment, Method
from autopeft.methods.hooked import Hooked, host, undone_on_error


class KroneckerAdapter(nn.Module):
    """(…, width) -> (…, width): scale * x (A ⊗ B), which is never formed, + s x."""

    def __init__(self, width: int, scale: float, residual: bool) -> None:
        super().__init__()
        less = next(number for number in range(math.isqrt(width), 0, -1) if width % number == 0)
        self.a = nn.Parameter(torch.empty(width // less, less))
        self.b = nn.Parameter(torch.zeros(less, width // less))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.scale = scale
        self.residual = nn.Parameter(torch.zeros(1)) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(*x.shape[:-1], *self.b.T.shape) @ self.b
        added = (rows.transpose(-1, -2) @ self.a).transpose(-1, -2).flatten(-2) * self.scale
        return added if self.residual is None else added + self.residual * x


@dataclass(frozen=True)
class KronaB(Method):
    """A Kronecker adapter in every chosen layer."""

    scale: float = 1.0
    """Factor before the Kronecker product."""
    residual: bool = False
    """Whether the sub-layer's input is added too, with a learned factor."""
    layers: Layers = "all"
    """Layers that get an adapter."""

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        module = nn.ModuleDict()
        with undone_on_error(Hooked(model, module)) as attached:
            for place in sites.at("ffn", self.layers):
                device, dtype = host(model, sites.layers[place.layer])
                with torch.device(device):
                    adapter = KroneckerAdapter(place.width, self.scale, self.residual).to(dtype)
                module[f"{place.layer}"] = adapter
                self._hook(attached, place, adapter)
        return attached

    def _hook(self, attached: Hooked, place: Place, adapter: KroneckerAdapter) -> None:
        if not place.source:
            raise CannotAttach("KronA^B needs to know what enters the feed-forward: map 'ffn.up'.")
        attached.between(place.source, place.path, lambda x, y: y + adapter(x))
