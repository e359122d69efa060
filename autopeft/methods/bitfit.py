"""BitFit: train the biases that the backbone already has (Ben Zaken et al. 2022, arXiv:2106.10199).

All biases (also those of layer norms), or only those of named sites. A bias is a parameter called `bias`; T5's
`relative_attention_bias.weight` is none. Biases outside the layers (embeddings, pooler) are trained with `layers: all`
only. Of a fused projection the whole bias is trained, whichever of q, k and v is asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from autopeft.backbone.sites import Layers, Sites, layer_numbers
from autopeft.errors import CannotAttach
from autopeft.methods.base import Attachment, Method
from autopeft.methods.in_place import TrainedInPlace, used_parameters


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
        inside = used_parameters(model, sites)
        for name, parameter in model.named_parameters():
            path, _, leaf = name.rpartition(".")
            path = path.replace(".base_layer", "")
            wanted = everything or any(path == root or path.startswith(root + ".") for root in roots)
            if wanted and leaf == "bias" and id(parameter) in inside:
                yield f"{path}.bias", parameter


def _names(biases: str | Sequence[str]) -> Sequence[str]:
    return [biases] if isinstance(biases, str) else biases
