"""Top-layer tuning: train the last layers whole, and freeze everything below (Lee et al. 2019, arXiv:1911.03090).

The backward pass ends at the lowest trained layer, which saves time and memory. What follows the layers (a final norm,
a pooler) stays frozen, like the embeddings.
"""

from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from autopeft.backbone.sites import Sites
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.base import Attachment, Method
from autopeft.methods.in_place import TrainedInPlace, own_parameters


@dataclass(frozen=True)
class TopLayers(Method):
    """Trains all parameters of the last layers."""

    lacks = MappingProxyType({"quantised": "it trains the matrices of layers themselves"})

    count: int = 1
    """How many layers are trained, counted from the top."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise AutopeftError(f"count must be at least 1, not {self.count}.")

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        if self.count > len(sites.layers):
            raise CannotAttach(f"the top {self.count} layers are wanted; {sites.architecture} has {len(sites.layers)}.")
        return TrainedInPlace(model, own_parameters(model, sites, *sites.layers[-self.count :]))
