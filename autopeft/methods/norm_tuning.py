"""Norm tuning: train the scales and shifts of the backbone's norms, and nothing else.

Every norm counts: those of the layers, of the embeddings, of queries and keys where there are any, and a final one. Its
parameters are all that its module holds: scale and shift of a layer norm, the scale of an RMS norm. Norms outside the
layers are trained with `layers: all` only; none is decayed.
"""

from dataclasses import dataclass

from torch import nn

from autopeft.backbone.sites import Layers, Sites
from autopeft.errors import CannotAttach
from autopeft.methods.base import Attachment, Method
from autopeft.methods.in_place import TrainedInPlace, own_parameters


@dataclass(frozen=True)
class NormTuning(Method):
    """Trains the backbone's own norms."""

    layers: Layers = "all"
    """Layers whose norms are trained."""

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        chosen = own_parameters(model, sites, *(place.path for place in sites.at("norm", self.layers)))
        if not chosen:
            raise CannotAttach(f"norm tuning finds no norms to train in {sites.architecture}.")
        return TrainedInPlace(model, chosen)
