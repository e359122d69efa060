"""AdaMix: a bottleneck adapter of several experts, one drawn at random per layer and forward pass of training.

f + U gelu(D_k f + b_D^k) + b_U, where f is what the feed-forward's down-projection gives, before dropout and residual
sum; k is drawn uniformly for the whole batch, and the up-projection is shared (Wang et al. 2022, arXiv:2205.12410, as
in the published code). A second pass with other draws gives the consistency loss. Evaluated and saved are the experts'
average weights: one ordinary adapter, which is what all experts begin from once it is loaded.

A draw is taken from torch's random numbers, so that gradient checkpointing repeats it. U starts at zero, so that the
model's output is unchanged at first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from autopeft.backbone.sites import Layers, Sites
from autopeft.errors import AutopeftError
from autopeft.methods.base import Attachment, Divergence, Method
from autopeft.methods.hooked import WEIGHTS, Hooked, copy_into, host, read_tensors, undone_on_error


@dataclass(frozen=True)
class AdaMix(Method):
    """A mixture of adapters in every chosen layer."""

    bottleneck: int = 48
    """Width of the bottleneck."""
    experts: int = 4
    """Down-projections to draw from."""
    consistency: float = 1.0
    """Weight of the loss that draws two passes with different experts together; 0: there is one pass."""
    layers: Layers = "all"
    """Layers that get a mixture."""

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise AutopeftError(f"bottleneck must be at least 1, not {self.bottleneck}.")
        if self.experts < 1:
            raise AutopeftError(f"experts must be at least 1, not {self.experts}.")
        if self.consistency < 0:
            raise AutopeftError(f"consistency must not be below 0, not {self.consistency}.")
        if self.experts == 1 and self.consistency:
            raise AutopeftError("one expert has nothing to be consistent with: set consistency to 0, or more experts.")

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        module = nn.ModuleDict()
        widths = {place.layer: place.width for place in sites.at("ffn", self.layers)}
        with undone_on_error(AdaMixAttachment(model, module, self.consistency)) as attached:
            for place in sites.at("ffn.down", self.layers):
                layer = sites.layers[place.layer]
                device, dtype = host(model, layer)
                with torch.device(device):
                    mixture = Mixture(widths[place.layer], self.bottleneck, self.experts).to(dtype)
                module[str(place.layer)] = mixture
                attached.on_output(place.path, _adding(mixture, model.get_submodule(layer)))
        return attached


def _adding(mixture: "Mixture", layer: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda f: f + mixture(f, draws=layer.training)


class Mixture(nn.Module):
    """(…, width) -> (…, width): the adapter of one drawn expert, or of their average."""

    def __init__(self, width: int, bottleneck: int, experts: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.down = nn.Parameter(torch.empty(experts, bottleneck, width).uniform_(-bound, bound))
        self.down_bias = nn.Parameter(torch.zeros(experts, bottleneck))
        self.up = nn.Parameter(torch.zeros(width, bottleneck))
        self.up_bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, draws: bool) -> Tensor:
        if draws and len(self.down) > 1:
            drawn = torch.randint(len(self.down), (1,), device=x.device)
            down, bias = (each.index_select(0, drawn)[0] for each in (self.down, self.down_bias))
        else:
            down, bias = _average(self.down), _average(self.down_bias)
        return linear(gelu(linear(x, down, bias)), self.up, self.up_bias)

    def merged(self) -> Mapping[str, Tensor]:
        """The one adapter that the experts are on average."""
        return {
            "down": _average(self.down),
            "down_bias": _average(self.down_bias),
            "up": self.up,
            "up_bias": self.up_bias,
        }


def _average(experts: Tensor) -> Tensor:
    """Their mean, without rounding where they are equal: what was saved computes the same when loaded."""
    return experts[0] + (experts - experts[0]).mean(0)


class AdaMixAttachment(Hooked):
    """Mixtures on a model, with the consistency loss that trains them."""

    def __init__(self, model: nn.Module, module: nn.Module, consistency: float) -> None:
        super().__init__(model, module)
        self._consistency = consistency

    def undecayed(self) -> frozenset[str]:
        return frozenset(name for name in self.trainable() if name.endswith("bias"))

    def extra_loss(self, output: Tensor, again: Callable[[], Tensor], divergence: Divergence) -> Tensor | None:
        return self._consistency * inconsistency(output, again(), divergence) if self._consistency else None

    @torch.no_grad()
    def shipped(self) -> Mapping[str, Tensor]:
        mixtures = {number: each for number, each in self.module.named_children() if isinstance(each, Mixture)}
        return {f"{number}.{name}": t for number, each in mixtures.items() for name, t in each.merged().items()}

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Every expert becomes the adapter that was saved."""
        merged = {name: torch.empty_like(tensor) for name, tensor in self.shipped().items()}
        copy_into(merged, read_tensors(folder / WEIGHTS), folder)
        for name, tensor in self.trainable().items():
            tensor.copy_(merged[name].expand_as(tensor))


def inconsistency(one: Tensor, other: Tensor, divergence: Divergence) -> Tensor:
    """Half the symmetric divergence of two passes' outputs.

    As in the published code, no gradient flows into the distribution that the other pass is drawn to.
    """
    return torch.stack([divergence(one, other.detach()), divergence(other, one.detach())]).mean()
