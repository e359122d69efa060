"""A trained change of weights as a LoRA, which servers know: by peft's own conversion, one singular value decomposition
of each change.

All layers get one rank, because servers read one. What that leaves out is little; its score is told.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from autopeft.artifacts.trained import TrainedModel
from autopeft.errors import CannotAttach, CannotMerge
from autopeft.methods.attached import Attached, Wanted, attach
from autopeft.methods.peft_config import WRAPPED
from autopeft.methods.registry import Configured, method
from autopeft.space.candidate import Candidate

LORA = "lora"
_PLACED = ("sites", "layers")
"""Settings that say where a method is."""


def as_lora(trained: TrainedModel, candidate: Candidate) -> tuple[TrainedModel, Candidate]:
    """The same backbone and head with a LoRA in the place of the method, and how that is told. Raises CannotMerge."""
    attached = trained.attached
    if attached is None:
        raise CannotMerge("what is merged already is no method that could be written as a LoRA.")
    if len(attached.chosen) > 1:
        names = ", ".join(f"'{each.name}'" for each in attached.chosen)
        raise CannotMerge(f"{names} together cannot be written as one LoRA: only a single method can.")
    (chosen,), (part,) = attached.chosen, attached.parts
    if chosen.name == LORA and not chosen.settings.get("dora"):
        raise CannotMerge("it is a LoRA already: export it as it is.")
    factors = part.as_lora()
    rank = max(len(a) for a, _ in factors.values())
    placed = {name: chosen.settings[name] for name in _PLACED if name in chosen.settings}
    attached.detach()
    lora = _attached(trained, method(LORA, rank=rank, alpha=rank, **placed), chosen)
    try:
        _fill(lora, factors, chosen)
    except BaseException:
        lora.detach()
        raise
    own = replace(candidate.parts[0], method=LORA, settings={**lora.chosen[0].settings})
    told = TrainedModel(trained.backbone, lora, trained.model.head, trained.description)
    return told, replace(candidate, name=LORA, parts=(own,))


def _attached(trained: TrainedModel, lora: Wanted, chosen: Configured) -> Attached:
    try:
        return attach(trained.backbone.model, lora, trained.backbone.sites)
    except CannotAttach as error:
        raise CannotMerge(f"'{chosen.name}' cannot be written as a LoRA: {error}") from error


@torch.no_grad()
def _fill(lora: Attached, factors: Mapping[str, tuple[Tensor, Tensor]], chosen: Configured) -> None:
    """Ranks that a layer has no use for are zero."""
    own = {each.name: each.tensor for each in lora.tensors()}
    places = {f"{path}.lora_{side}.weight" for path in factors for side in "AB"}
    if {_inside(name) for name in own} != places:
        raise CannotMerge(f"'{chosen.name}' cannot be written as a LoRA: it is on modules where no LoRA goes.")
    for name, tensor in own.items():
        path, _, side = _inside(name).removesuffix(".weight").rpartition(".lora_")
        value = factors[path]["AB".index(side)]
        tensor.zero_()
        tensor[: value.shape[0], : value.shape[1]] = value


def _inside(name: str) -> str:
    return name.removeprefix(WRAPPED)
