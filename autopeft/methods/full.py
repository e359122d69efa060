"""Full fine-tuning: train everything that the backbone has, as the point of reference for every other method.

Embeddings, layers, norms, a pooler: all of it but a task head, which is trained beside every method anyway, and what
the output does not depend on (a mask token, a pooler where nobody reads it). AdamW then needs four times the memory of
the weights, and a copy on the CPU is kept to put the backbone back afterwards.
"""

from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from autopeft.backbone.sites import Sites
from autopeft.methods.base import Attachment, Method
from autopeft.methods.in_place import TrainedInPlace, own_parameters


@dataclass(frozen=True)
class Full(Method):
    """Trains all of the backbone's own parameters."""

    lacks = MappingProxyType({"quantised": "it trains the matrices themselves"})

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        return TrainedInPlace(model, own_parameters(model, sites, ""))
