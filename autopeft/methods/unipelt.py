"""UniPELT: LoRA on q and v, a prefix and a Pfeiffer adapter in every layer, each weighed by a gate of its own.

A gate is the mean over a text's tokens of sigmoid(w x + c), one number per text, where x is what its part reads (Mao
et al. 2022, arXiv:2110.07577). q and v have a gate each, which stands for LoRA's alpha / rank; the prefix's keys and
values are multiplied by theirs, so a closed gate leaves a prefix of zeros; the adapter's output is multiplied by its
own.

Unlike in the published code, the mean is over real tokens only: padding would make a text's result depend on the
others in its batch.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from autopeft.backbone.inputs import bare
from autopeft.backbone.sites import Layers, Place, Sites
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.adapter import Bottleneck
from autopeft.methods.base import Attachment, Method
from autopeft.methods.hooked import host, undone_on_error
from autopeft.methods.prefix_tuning import PrefixAttachment, Prefixes, attention_of


@dataclass(frozen=True)
class UniPELT(Method):
    """Three gated parts in every chosen layer."""

    rank: int = 8
    """Rank of LoRA on q and v."""
    length: int = 10
    """Virtual tokens of the prefix."""
    hidden: int = 0
    """Width of the MLP that makes the prefixes in training; 0: the prefixes themselves are trained."""
    bottleneck: int = 48
    """Width of the adapter's bottleneck."""
    layers: Layers = "all"
    """Layers that get the three parts."""

    lacks = MappingProxyType({"causal": "its gates look at all tokens of a text, also at later ones"})

    def __post_init__(self) -> None:
        for name in ("rank", "length", "bottleneck"):
            if getattr(self, name) < 1:
                raise AutopeftError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.hidden < 0:
            raise AutopeftError(f"hidden must not be below 0, not {self.hidden}.")

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        places = {site: _by_layer(sites, site, self.layers) for site in ("q", "v", "ffn", "layer")}
        found = attention_of(model, sites, self.layers)
        device, dtype = host(model, sites.layers[min(found)])
        with torch.device(device):
            shapes = {str(number): shape for number, (_, shape) in found.items()}
            prefixes = Prefixes(shapes, self.length, sites.width, self.hidden)
            gated = {n: self._gated(model, {site: at[n] for site, at in places.items()}, sites) for n in found}
        module = nn.ModuleDict({str(number): each for number, each in gated.items()})
        module["prefixes"] = prefixes
        with undone_on_error(UniPELTAttachment(model, prefixes, module.to(dtype))) as attached:
            assert isinstance(attached, UniPELTAttachment)
            attached.watch_mask()
            for number, (attention, _) in found.items():
                prefix = partial(prefixes.of, str(number))
                attached.gate(gated[number], {site: at[number] for site, at in places.items()}, attention, prefix)
        return attached

    def _gated(self, model: nn.Module, places: Mapping[str, Place], sites: Sites) -> "Gated":
        q, v = places["q"], places["v"]
        if q.rows is None and q.path == v.path:
            raise CannotAttach(f"{sites.architecture} mixes the rows of q and v: UniPELT cannot tell them apart.")
        return Gated(_features(model, q), _features(model, v), self.rank, places["ffn"].width, self.bottleneck)


class Gated(nn.Module):
    """The weights of one layer but its prefix."""

    def __init__(self, q: tuple[int, int], v: tuple[int, int], rank: int, ffn: int, bottleneck: int) -> None:
        """`q` and `v` are features read and given."""
        super().__init__()
        self.q, self.v = LowRank(*q, rank), LowRank(*v, rank)
        self.adapter = Bottleneck(ffn, bottleneck, "relu", 1.0, learned=False)
        self.gate_q, self.gate_v, self.gate_prefix = (nn.Linear(each, 1) for each in (q[0], v[0], q[0]))
        self.gate_adapter = nn.Linear(ffn, 1)


class LowRank(nn.Module):
    """(…, width) -> (…, out): B A x, with B zero at first."""

    def __init__(self, width: int, out: int, rank: int) -> None:
        super().__init__()
        self.a = nn.Linear(width, rank, bias=False)
        self.b = nn.Linear(rank, out, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.a(x))
        return y


class UniPELTAttachment(PrefixAttachment):
    """The gated parts on a model, and the mask of the batch that is passing through it."""

    _mask: Tensor | None = None

    def reads(self) -> Iterable[nn.Module]:
        return (bare(self.model),)

    def watch_mask(self) -> None:
        """Remembers which tokens of a batch are real; a mask that is not (batch, length) is none."""
        backbone = bare(self.model)
        names = list(inspect.signature(backbone.forward).parameters)

        def before(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            mask = (dict(zip(names, inputs, strict=False)) | named).get("attention_mask")
            self._mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None

        self._handles.append(backbone.register_forward_pre_hook(before, with_kwargs=True))

    def gate(
        self,
        parts: Gated,
        places: Mapping[str, Place],
        attention: nn.Module,
        prefix: Callable[[], tuple[Tensor, Tensor]],
    ) -> None:
        """Hooks the parts of one layer."""
        opened: list[Tensor] = []

        def gated_prefix() -> tuple[Tensor, Tensor]:
            opening = opened.pop().unsqueeze(-1)
            keys, values = prefix()
            return opening * keys, opening * values

        def on_q(x: Tensor, y: Tensor) -> Tensor:
            opened[:] = [self._opening(parts.gate_prefix, x)]
            return _added(y, self._opening(parts.gate_q, x) * parts.q(x), places["q"])

        def on_adapter(u: Tensor) -> Tensor:
            change: Tensor = self._opening(parts.gate_adapter, u) * parts.adapter(u)
            return change

        self.on_call(places["q"].path, on_q)
        self.on_call(places["v"].path, lambda x, y: _added(y, self._opening(parts.gate_v, x) * parts.v(x), places["v"]))
        self.prepend(attention, gated_prefix)
        if places["ffn"].norm:
            self.before_norm(places["ffn"].norm, on_adapter)
        else:
            self.on_output(places["layer"].path, lambda h: h + on_adapter(h))

    def _opening(self, gate: nn.Module, x: Tensor) -> Tensor:
        """(batch, 1, 1): how far a gate is open for each text."""
        each: Tensor = gate(x).sigmoid()
        if self._mask is None:
            return each.mean(1, keepdim=True)
        real = (self._mask[:, -x.shape[1] :, None] != 0).float()
        mean = (each.float() * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
        return mean.to(each.dtype)


def _by_layer(sites: Sites, site: str, layers: Layers) -> Mapping[int, Place]:
    return {place.layer: place for place in sites.at(site, layers)}


def _features(model: nn.Module, place: Place) -> tuple[int, int]:
    """Features that a projection reads, and those of its output that belong to the place; peft may be around it."""
    module: Any = model.get_submodule(place.path)
    bare = module.get_base_layer() if hasattr(module, "get_base_layer") else module
    read, given = bare.weight.shape if isinstance(bare, Conv1D) else bare.weight.shape[::-1]
    return read, place.rows[1] - place.rows[0] if place.rows else given


def _added(y: Tensor, change: Tensor, place: Place) -> Tensor:
    """`y + change`, in the place's own features where several share a projection."""
    if place.rows is None:
        return y + change
    before, after = place.rows[0], y.shape[-1] - place.rows[1]
    return y + nn.functional.pad(change, (before, after))
