"""Layers like a backbone's, narrower by a whole factor, that start as a selection of its weights.

A narrow layer has the class of the backbone's own, built from its configuration with divided widths, so that whatever
an architecture does in a layer (grouped queries, gates, norms) is done in the narrow one too. Structured pruning fills
it (Sung et al. 2022, arXiv:2206.06522, section 3.3): features with the highest scores are kept, those that one linear
map gives are those that the next one reads, the stream of states keeps the same features in all layers, and q, k and
v of a head keep the same ones, by the product of their scores. Unlike in the published code, a narrow head's features
all come from one head. Rotary positions keep whole pairs of features, the same in every head, with their own angles.

Not covered: projections that mix the rows of q, k and v, rotary pairs that are neighbours, layers with buffers.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from autopeft.backbone.load import quietly
from autopeft.backbone.sites import Place, Sites
from autopeft.errors import CannotAttach
from autopeft.methods.observed import heads_of

Score = Callable[[nn.Module], Tensor]
"""Of a Linear or Conv1D: (features given,) how much each row of its weight matters."""
_READS = {"q": "states", "k": "states", "v": "states", "o": "queries"}
_READS |= {"ffn.up": "states", "ffn.gate": "states", "ffn.down": "wide"}
_GIVES = {"q": "queries", "k": "keys", "v": "keys", "o": "states"}
_GIVES |= {"ffn.up": "wide", "ffn.gate": "wide", "ffn.down": "states"}
"""Site -> which features its linear map reads and gives."""
_WIDE = ("intermediate_size", "ffn_dim", "n_inner", "hidden_dim", "d_ff")
"""How configurations call the width inside the feed-forward; the one with that value is meant."""


@dataclass(frozen=True)
class Sizes:
    """What a layer is made of."""

    states: int
    """Features of the stream of states."""
    heads: int
    """Heads of queries."""
    shared: int
    """Heads of keys and values."""
    head: int
    """Features of a head."""
    wide: int
    """Features inside the feed-forward."""
    rotary: int = 0
    """Features of a head that are turned by their position."""


@dataclass(frozen=True)
class Kept:
    """The features of one layer that its narrow counterpart has, in ascending order for each head."""

    states: Tensor
    queries: Tensor
    keys: Tensor
    wide: Tensor
    heads: Tensor
    """The heads of queries."""
    turned: Tensor
    """The features of a head that are turned by their position."""


def narrowed(full: Sizes, reduction: int) -> Sizes:
    """All widths divided by `reduction`: heads get fewer features, and there are fewer heads where that leaves a rest.

    Raises CannotAttach when there is a rest in any case.
    """
    inner = full.heads * full.head
    for what, width in (("states", full.states), ("attention", inner), ("feed-forward", full.wide)):
        if width % reduction:
            raise CannotAttach(f"reduction {reduction} does not divide the {width} features of the {what}.")
    for heads in range(full.heads, 0, -1):
        head, rest = divmod(inner // reduction, heads)
        pairs, half = divmod(full.rotary * head, 2 * full.head)
        if not (full.heads % heads or rest or half) and head <= full.head:
            shared = math.gcd(heads, full.shared)
            return Sizes(full.states // reduction, heads, shared, head, full.wide // reduction, 2 * pairs)
    turned = f", {full.rotary} of them turned in pairs," if full.rotary else ""
    raise CannotAttach(
        f"reduction {reduction} leaves {inner // reduction} features of attention, which are no whole heads: here are "
        f"{full.heads} of {full.head} features{turned} each."
    )


def select(scores: Mapping[str, Tensor], states: Tensor, full: Sizes, narrow: Sizes) -> Kept:
    """The features to keep of one layer, by the scores of what the maps at its sites give."""
    group, per = full.heads // full.shared, narrow.heads // narrow.shared
    queries = scores["q"].view(full.shared, group, full.head)
    others = scores["k"].view(full.shared, full.head) * scores["v"].view(full.shared, full.head)
    groups = _top((queries.sum(1) * others).sum(1), narrow.shared)
    inside = _top(queries[groups].sum(2), per)
    chosen = queries[groups].gather(1, inside[:, :, None].expand(-1, -1, full.head)).sum(1) * others[groups]
    features = _inside(chosen, full, narrow)
    heads = groups[:, None] * group + inside
    wide = scores["ffn.up"] * scores["ffn.gate"] if "ffn.gate" in scores else scores["ffn.up"]
    return Kept(
        states,
        (heads[:, :, None] * full.head + features[:, None]).flatten(),
        (groups[:, None] * full.head + features).flatten(),
        _top(wide, narrow.wide),
        heads.flatten(),
        features[0, : narrow.rotary],
    )


def _inside(scores: Tensor, full: Sizes, narrow: Sizes) -> Tensor:
    """(heads, features) to keep of each head: the turned ones in pairs, the same for all heads, then the others."""
    if not full.rotary:
        return _top(scores, narrow.head)
    scores, half = scores.sum(0, keepdim=True), full.rotary // 2
    pairs = _top(scores[:, :half] + scores[:, half : full.rotary], narrow.rotary // 2)
    rest = _top(scores[:, full.rotary :], narrow.head - narrow.rotary) + full.rotary
    return torch.cat([pairs, pairs + half, rest], 1).expand(narrow.shared, -1)


def _top(scores: Tensor, count: int) -> Tensor:
    return scores.topk(count).indices.sort().values


@dataclass(frozen=True)
class _Layer:
    """A layer of the backbone as its sites tell it apart."""

    module: nn.Module
    sites: Mapping[str, tuple[nn.Module, tuple[int, int] | None]] = field(repr=False)
    """Site -> its linear map, and the rows of it that are the site's where several share it."""

    def scores(self, score: Score, sites: Sequence[str]) -> dict[str, Tensor]:
        found = {}
        for site in sites:
            if site in self.sites:
                module, rows = self.sites[site]
                found[site] = score(module)[slice(*rows)] if rows else score(module)
        return found

    def kept_of(self, module: nn.Module, kept: Kept) -> tuple[Tensor, Tensor] | None:
        """The rows and columns to keep of a linear map; None of any other module."""
        sites = sorted((rows or (0, 0), site) for site, (linear, rows) in self.sites.items() if linear is module)
        if not sites:
            return None
        rows = torch.cat([getattr(kept, _GIVES[site]) + start for (start, _), site in sites])
        columns: Tensor = getattr(kept, _READS[sites[0][1]])
        return rows, columns


class Narrowing:
    """Chosen layers of a backbone, and how they are narrowed."""

    def __init__(self, model: nn.Module, sites: Sites, layers: Sequence[int], reduction: int, rotary: int) -> None:
        self._model = model
        self._architecture = sites.architecture
        self._layers = {number: _layer(model, sites, number) for number in layers}
        self.layers = tuple(layers)
        self._paths = {number: sites.layers[number] for number in layers}
        sizes = {_sizes(model, layer, rotary) for layer in self._layers.values()}
        if len(sizes) > 1:
            raise CannotAttach(f"layers of {sites.architecture} differ in their widths.")
        self.full = sizes.pop()
        self.narrow = narrowed(self.full, reduction)
        self._skeleton = self._built()

    def part(self, path: str) -> nn.Module:
        """The narrow counterpart of the module at `path`, without values: on the meta device."""
        return self._skeleton.get_submodule(path)

    def linears(self) -> list[Any]:
        """The linear maps at the sites of the chosen layers."""
        return list({id(m): m for layer in self._layers.values() for m, _ in layer.sites.values()}.values())

    def kept(self, score: Score) -> Mapping[int, Kept]:
        """What to keep of each layer. The states' features are those that the maps into the stream score highest."""
        into = [each for layer in self._layers.values() for each in layer.scores(score, ("o", "ffn.down")).values()]
        states = _top(torch.stack(into).sum(0), self.narrow.states)
        inner = ("q", "k", "v", "ffn.up", "ffn.gate")
        return {
            number: select(layer.scores(score, inner), states, self.full, self.narrow)
            for number, layer in self._layers.items()
        }

    def layer(self, number: int, kept: Kept) -> Mapping[str, Tensor]:
        """The values of a narrow layer, by name."""
        layer, block = self._layers[number], self.part(self._paths[number])
        return {name: self._cut(name, layer, wanted, kept) for name, wanted in block.named_parameters()}

    def states(self, tensor: Tensor, kept: Kept) -> Tensor:
        """Of a tensor of the states' features, such as a norm's scale, those that are kept."""
        return tensor.detach().index_select(0, kept.states)

    def _cut(self, name: str, layer: _Layer, wanted: Tensor, kept: Kept) -> Tensor:
        path, _, leaf = name.rpartition(".")
        module = layer.module.get_submodule(path)
        whole = layer.module.get_parameter(name).detach()
        both = layer.kept_of(module, kept)
        indices: tuple[Tensor | None, ...]
        if both is None:
            indices = self._by_size(whole, kept)
        elif leaf == "bias":
            indices = both[:1]
        else:
            indices = both[::-1] if isinstance(module, Conv1D) else both
        cut: Tensor = whole
        for dimension, index in enumerate(indices):
            if index is not None and cut.shape != wanted.shape:
                cut = cut.index_select(dimension, index)
        if cut.shape != wanted.shape:
            raise CannotAttach(
                f"layers of {self._architecture} cannot be narrowed: no part of '{name}' {tuple(whole.shape)} is known "
                f"to be the {tuple(wanted.shape)} of a narrow layer."
            )
        return cut.clone()

    def _by_size(self, whole: Tensor, kept: Kept) -> tuple[Tensor | None, ...]:
        """What the features of norms, and of tables with a column for each head, are, told by how many there are."""
        full = self.full
        if whole.ndim == 1:
            return ({full.head: kept.turned, full.states: kept.states}.get(len(whole)),)
        return tuple(kept.heads if size == full.heads else None for size in whole.shape)

    def _built(self) -> PreTrainedModel:
        """The whole model at narrow sizes, on the meta device."""
        if not isinstance(self._model, PreTrainedModel):
            raise CannotAttach(f"narrow layers are built from a configuration, and {self._architecture} has none.")
        config: Any = copy.deepcopy(self._model.config)
        wide = next((name for name in _WIDE if getattr(config, name, None) == self.full.wide), None)
        values = {"hidden_size": self.narrow.states, "num_attention_heads": self.narrow.heads}
        values |= {"num_key_value_heads": self.narrow.shared, "head_dim": self.narrow.head}
        values |= {wide: self.narrow.wide} if wide else {}
        try:
            for name, value in values.items():
                if getattr(config, name, None) is not None:
                    setattr(config, name, value)
            with torch.device("meta"), quietly():
                kind: Any = type(self._model)
                built: PreTrainedModel = kind._from_config(config)
                return built
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise CannotAttach(f"{self._architecture} cannot be built at divided widths: {reason}") from error


def _layer(model: nn.Module, sites: Sites, number: int) -> _Layer:
    module = model.get_submodule(sites.layers[number])
    if any(True for _ in module.buffers()):
        raise CannotAttach(f"layers of {sites.architecture} hold buffers, which have no narrow counterpart.")
    found: dict[str, tuple[nn.Module, tuple[int, int] | None]] = {}
    for site in _GIVES:
        places: Sequence[Place] = sites.places.get(site, ()) if site == "ffn.gate" else sites.at(site)
        for place in places:
            if place.layer == number:
                found[site] = model.get_submodule(place.path), place.rows
    missing = [site for site in _GIVES if site not in found and site != "ffn.gate"]
    if missing:
        raise CannotAttach(f"layer {number} of {sites.architecture} has no site '{missing[0]}'.")
    if any(found[site][1] is None and found[site][0] is found["v"][0] for site in ("q", "k")):
        raise CannotAttach(f"{sites.architecture} mixes the rows of q, k and v: they cannot be selected apart.")
    return _Layer(module, found)


def _sizes(model: nn.Module, layer: _Layer, rotary: int) -> Sizes:
    config: Any = getattr(model, "config", None)
    heads = heads_of(model)
    shared = int(getattr(config, "num_key_value_heads", None) or heads)
    given = {site: rows[1] - rows[0] if rows else _features(linear)[1] for site, (linear, rows) in layer.sites.items()}
    if not heads or given["q"] % heads or given["k"] * heads != given["q"] * shared:
        raise CannotAttach(f"the configuration of {type(model).__name__} does not tell how many heads it has.")
    full = Sizes(given["o"], heads, shared, given["q"] // heads, given["ffn.up"], rotary)
    widths = {"states": full.states, "queries": given["q"], "keys": given["k"], "wide": full.wide}
    for site, (linear, _) in layer.sites.items():
        if (_features(linear)[0], given[site]) != (widths[_READS[site]], widths[_GIVES[site]]):
            raise CannotAttach(f"'{site}' of {type(model).__name__} is not as wide as what it reads or gives.")
    return full


def _features(linear: Any) -> tuple[int, int]:
    """Features that a linear map reads and gives."""
    rows, columns = linear.weight.shape
    return (rows, columns) if isinstance(linear, Conv1D) else (columns, rows)


def summed(module: nn.Module, entries: Tensor) -> Tensor:
    """(features given,): the sum over each row of a map's weight of `entries`, one for each of its numbers."""
    return entries.sum(0 if isinstance(module, Conv1D) else 1, dtype=torch.float32).double()
