"""BitFit: train the biases that the backbone already has (Ben Zaken et al. 2022, arXiv:2106.10199).

All biases (also those of layer norms), or only those of named sites. A bias is a parameter called `bias`; T5's
`relative_attention_bias.weight` is none. Biases outside the layers (embeddings, pooler) are trained with `layers: all`
only. Of a fused projection the whole bias is trained, whichever of q, k and v is asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from autopeft.backbone.sites import Layers, Sites, layer_numbers
from autopeft.errors import CannotAttach
from autopeft.methods.base import Attachment, Method
from autopeft.methods.hooked import Hooked


@dataclass(frozen=True)
class BitFit(Method):
    """Trains the backbone's own biases."""

    biases: str | Sequence[str] = "all"
    """'all', or the sites whose biases are trained, such as [q, ffn.up]."""
    layers: Layers = "all"
    """Layers whose biases are trained."""

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        chosen = dict(self._biases(model, sites))
        if not chosen:
            where = "its layers" if self.biases == "all" else f"its {', '.join(_names(self.biases))}"
            raise CannotAttach(f"BitFit finds no biases to train in {sites.architecture}: {where} have none.")
        return TrainedInPlace(model, chosen)

    def _biases(self, model: nn.Module, sites: Sites) -> Iterator[tuple[str, nn.Parameter]]:
        everything = self.layers == "all" and self.biases == "all"
        roots = [sites.layers[number] for number in layer_numbers(self.layers, len(sites.layers))]
        if self.biases != "all":
            roots = [place.path for name in _names(self.biases) for place in sites.at(name, self.layers)]
        backbone = getattr(model, "base_model", model)
        inside = {id(parameter) for parameter in backbone.parameters()}
        for name, parameter in model.named_parameters():
            path, _, leaf = name.rpartition(".")
            path = path.replace(".base_layer", "")
            wanted = everything or any(path == root or path.startswith(root + ".") for root in roots)
            if wanted and leaf == "bias" and id(parameter) in inside:
                yield f"{path}.bias", parameter


def _names(biases: str | Sequence[str]) -> Sequence[str]:
    return [biases] if isinstance(biases, str) else biases


class TrainedInPlace(Hooked):
    """Existing parameters of the model, trained where they are and put back on `detach`."""

    mergeable = True

    def __init__(self, model: nn.Module, chosen: Mapping[str, nn.Parameter]) -> None:
        super().__init__(model, nn.Module())
        self._chosen = chosen
        self._before = {name: parameter.detach().clone() for name, parameter in chosen.items()}

    def trainable(self) -> Mapping[str, nn.Parameter]:
        return self._chosen

    def merge(self) -> None:
        """The trained values are the model's own already; `detach` will no longer undo them."""
        self._before.clear()

    def detach(self) -> None:
        super().detach()
        with torch.no_grad():
            for name, value in self._before.items():
                self._chosen[name].copy_(value)
