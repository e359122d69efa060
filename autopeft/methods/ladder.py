"""Ladder Side-Tuning: a small network beside the backbone, which reads its states and is all that is trained (Sung et
al. 2022, arXiv:2206.06522).

z = D_0 h_0, then for every chosen layer z <- m z + (1 - m) D h and z <- B(z), where h are the states that the layer
gives, m = sigmoid(a / 0.1) is a learned gate, and B is a layer like the backbone's with all widths divided by
`reduction`, which starts as a selection of the layer's weights (`pruned.py`). U z stands for the backbone's last states
at the end, behind its final norm where there is one; z has a narrow norm like that then. Until `set_up` has seen data,
weights are selected by their magnitude.

The backbone runs without a graph and without dropout, whoever calls it in whichever mode, so no activation of it is
kept but the states that a D reads, and no other method can be trained in it meanwhile. Beside a cache of the backbone's
keys and values there is one of the side network's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import Cache, DynamicCache

from autopeft.backbone.inputs import bare
from autopeft.backbone.sites import Layers, Sites, layer_numbers
from autopeft.errors import AutopeftError, CannotAttach, unknown
from autopeft.methods.base import Attachment, Batches, Calibration, Method
from autopeft.methods.hooked import (
    WEIGHTS,
    Hooked,
    copy_into,
    fitting,
    host,
    read_tensors,
    trained_in,
    undone_on_error,
)
from autopeft.methods.observed import Call, Observed, are_rotary, is_by_head, observed
from autopeft.methods.passes import evaluating, use_gradients
from autopeft.methods.pruned import Kept, Narrowing, summed

Scored = Literal["fisher", "magnitude"]
TEMPERATURE = 0.1
"""What a gate's number is divided by, as in the published code."""


@dataclass(frozen=True)
class Ladder(Method):
    """A side network of narrow layers."""

    lacks = MappingProxyType({"quantised": "its side network is cut out of the matrices themselves"})

    reduction: int = 8
    """What the backbone's widths are divided by."""
    layers: Layers = "3 of 4"
    """Layers that have a counterpart in the side network; the others are passed by."""
    score: Scored = "fisher"
    """What tells which of the backbone's features matter: fisher or magnitude."""
    samples: int = 1024
    """Training examples, at most, that the Fisher information is estimated on, one by one."""
    residual: bool = False
    """Whether the backbone's own last states are added to U z; U is zero at first then, and changes nothing."""

    excludes_others = "it runs the backbone without gradients, so nothing else can be trained in there"

    def __post_init__(self) -> None:
        for name in ("reduction", "samples"):
            if getattr(self, name) < 1:
                raise AutopeftError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.score not in get_args(Scored):
            raise unknown("score", self.score, get_args(Scored))

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        numbers = layer_numbers(self.layers, len(sites.layers))
        if not numbers:
            raise CannotAttach(f"a ladder stands beside layers, and {sites.architecture} has none.")
        seen = observed(model, sites)
        narrowing = Narrowing(model, sites, numbers, self.reduction, seen.rotary)
        with undone_on_error(LadderAttachment(model, sites, narrowing, seen, self)) as attached:
            assert isinstance(attached, LadderAttachment)
            _try(attached.side_layer(numbers[-1]), seen.calls[sites.layers[numbers[-1]]], sites.architecture)
        return attached


class SideLayer(nn.Module):
    """One step of the side network, beside one layer of the backbone."""

    heads: Tensor | None
    turned: Tensor | None

    def __init__(self, width: int, block: nn.Module, kept: Kept, narrowing: Narrowing, biased: bool) -> None:
        super().__init__()
        full, narrow = narrowing.full, narrowing.narrow
        self.down = nn.Linear(width, narrow.states)
        self.gate = nn.Parameter(torch.zeros(()))
        self.block = block
        self._all_heads = full.heads
        self.register_buffer("heads", kept.heads if biased and narrow.heads < full.heads else None)
        self.register_buffer("turned", kept.turned if narrow.rotary < full.rotary else None)

    def forward(self, z: Tensor, states: Tensor, inputs: Sequence[Any], named: Mapping[str, Any]) -> Tensor:
        """Side states after the step; `inputs` and `named` are what the backbone's layer got beside its states."""
        share = (self.gate / TEMPERATURE).sigmoid()
        z = share * z + (1 - share) * self.down(fitting(states, self.down.weight))
        others = {name: self._fitting(value) for name, value in named.items()}
        output = self.block(z, *map(self._fitting, inputs), **others)
        after: Tensor = output[0] if isinstance(output, tuple) else output
        return after

    def _fitting(self, value: Any) -> Any:
        """What a narrow layer gets in place of what its counterpart got: its own heads and positions."""
        if are_rotary(value):
            value = tuple(fitting(each, self.down.weight) for each in value)
            return value if self.turned is None else tuple(each.index_select(-1, self.turned) for each in value)
        if isinstance(value, Tensor):
            value = fitting(value, self.down.weight)
        if self.heads is not None and is_by_head(value, self._all_heads):
            return value.index_select(1, self.heads)
        return value


class SideNetwork(nn.Module):
    """All that a ladder trains."""

    def __init__(
        self, width: int, last: int, layers: Mapping[str, SideLayer], norm: nn.Module | None, dropout: float
    ) -> None:
        super().__init__()
        narrow = next(iter(layers.values())).down.out_features
        self.dropout = nn.Dropout(dropout)
        self.first = nn.Linear(width, narrow)
        self.rungs = nn.ModuleDict(layers)  # As saved tensors have been named from the first.
        self.norm = norm
        self.up = nn.Linear(narrow, last)

    def begin(self, states: Tensor) -> Tensor:
        """Side states from the embeddings."""
        z: Tensor = self.first(self.dropout(fitting(states, self.first.weight)))
        return z

    def end(self, z: Tensor) -> Tensor:
        """Last states from side states."""
        states: Tensor = self.up(z if self.norm is None else self.norm(z))
        return states


class LadderAttachment(Hooked):
    """A side network that follows the backbone's forward pass and gives its last states."""

    module: SideNetwork

    def __init__(self, model: nn.Module, sites: Sites, narrowing: Narrowing, seen: Observed, settings: Ladder) -> None:
        self._narrowing = narrowing
        self._settings = settings
        self._paths = {number: sites.layers[number] for number in narrowing.layers}
        norm = next((place.path for place in sites.places["norm"] if model.get_submodule(place.path) is seen.end), None)
        self._norm = norm
        kept = narrowing.kept(_magnitude)
        super().__init__(model, self._side_network(model, sites, kept, seen))
        self._prune(kept)
        self._running = ExitStack()
        self._with_graph = True
        self._bare = False
        self._z: Tensor | None = None
        self._caches: WeakKeyDictionary[Cache, Cache] = WeakKeyDictionary()
        beside = (sites.layers[0], *self._paths.values())
        self._read = (bare(model), *(model.get_submodule(path) for path in beside), seen.end)
        self._hook(bare(model), sites, seen.end)

    def reads(self) -> Iterable[nn.Module]:
        return self._read

    def side_layer(self, number: int) -> SideLayer:
        """The step beside a layer."""
        side = self.module.rungs[str(number)]
        assert isinstance(side, SideLayer)
        return side

    def _side_network(self, model: nn.Module, sites: Sites, kept: Mapping[int, Kept], seen: Observed) -> SideNetwork:
        first = model.get_submodule(sites.layers[0])
        device, dtype = host(model, sites.layers[0])
        dropout = next((each.p for each in first.modules() if isinstance(each, nn.Dropout)), 0.0)
        norm = self._narrowing.part(self._norm) if self._norm else None
        width = self._narrowing.full.states
        with torch.device(device):
            layers = {
                str(number): SideLayer(width, self._narrowing.part(path), kept[number], self._narrowing, seen.biased)
                for number, path in self._paths.items()
            }
            network = SideNetwork(width, sites.width, layers, norm, dropout)
        if self._settings.residual:
            nn.init.zeros_(network.up.weight)
            nn.init.zeros_(network.up.bias)
        return network.to(dtype)

    def _hook(self, backbone: nn.Module, sites: Sites, end: nn.Module) -> None:
        layers = [self.model.get_submodule(path) for path in sites.layers]
        self._handles.append(backbone.register_forward_pre_hook(self._begins))
        self._handles.append(layers[0].register_forward_pre_hook(self._starts, with_kwargs=True))
        for number in self._paths:
            climbs = partial(self._climbs, self.side_layer(number))
            self._handles.append(layers[number].register_forward_hook(climbs, with_kwargs=True))
        self._handles.append(end.register_forward_hook(self._gives))
        self._handles.append(backbone.register_forward_hook(self._ends, always_call=True))

    def _begins(self, backbone: nn.Module, _: Any) -> None:
        self._with_graph = torch.is_grad_enabled()
        self.module.train(backbone.training)
        self._running.enter_context(evaluating(backbone))
        if not self._bare:
            self._running.enter_context(torch.no_grad())

    def _starts(self, _: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if not self._bare:
            with torch.set_grad_enabled(self._with_graph):
                self._z = self.module.begin(Call.of(inputs, named).states)

    def _climbs(
        self, side: SideLayer, layer: Any, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Any
    ) -> None:
        """A layer that recomputes its activations in the backward pass would have its counterpart do so too."""
        if self._bare or self._z is None:
            return
        block: Any = side.block
        block.gradient_checkpointing = getattr(layer, "gradient_checkpointing", False)
        block._gradient_checkpointing_func = getattr(layer, "_gradient_checkpointing_func", None)
        states = output[0] if isinstance(output, tuple) else output
        call = _with_cache(Call.of(inputs, named), partial(self._cache_beside, length=states.shape[1]))
        with torch.set_grad_enabled(self._with_graph):
            self._z = side(self._z, states, call.inputs, call.named)

    def _cache_beside(self, cache: Cache, length: int) -> Cache | None:
        """The side network's beside one of the backbone's, which holds the `length` tokens that are read by now. None
        where it is trained: a layer that is checkpointed reads them twice.
        """
        if cache not in self._caches:
            if cache.get_seq_length() > length:
                raise AutopeftError("a ladder has not read the tokens in this cache: begin with an empty one.")
            if self._with_graph:
                return None
            config: Any = bare(self.model).config
            self._caches[cache] = DynamicCache(config=config.get_text_config(decoder=True))
        return self._caches[cache]

    def _gives(self, _: nn.Module, __: Any, output: Any) -> Any:
        if self._bare or self._z is None:
            return output
        torch.set_grad_enabled(self._with_graph)
        last = output[0] if isinstance(output, tuple) else output
        states, self._z = self.module.end(self._z).to(last.dtype), None
        if self._settings.residual:
            states = states + last
        return (states, *output[1:]) if isinstance(output, tuple) else states

    def _ends(self, *_: Any) -> None:
        self._running.close()
        self._z = None

    @contextmanager
    def calibrating(self) -> Iterator[Calibration | None]:
        """At the Fisher information for the bare backbone's loss, with dropout off: by that weights are selected."""
        if self._settings.score != "fisher":
            yield None
            return
        linears = list(self._narrowing.linears())
        weights = [linear.weight for linear in linears]
        self._bare = True
        try:
            yield Calibration(self._settings.samples, 1, weights, partial(_fisher, linears), self._select)
        finally:
            self._bare = False

    def _select(self, fisher: Mapping[nn.Module, Tensor]) -> None:
        if any(each.any() for each in fisher.values()):
            self._prune(self._narrowing.kept(fisher.__getitem__))

    @torch.no_grad()
    def _prune(self, kept: Mapping[int, Kept]) -> None:
        """Fills the narrow layers, and their norm, with these features' weights of the backbone's."""
        for number, own in kept.items():
            side = self.side_layer(number)
            _fill(side.block, self._narrowing.layer(number, own))
            for buffer, value in ((side.heads, own.heads), (side.turned, own.turned)):
                if buffer is not None:
                    buffer.copy_(value)
        if self._norm and self.module.norm is not None:
            one = next(iter(kept.values()))
            whole = self.model.get_submodule(self._norm).named_parameters()
            _fill(self.module.norm, {name: self._narrowing.states(tensor, one) for name, tensor in whole})

    def shipped(self) -> Mapping[str, Tensor]:
        return {**self.trainable(), **dict(self.module.named_buffers())}

    def state(self) -> Mapping[str, Tensor]:
        return dict(self.module.named_buffers())

    def take_up(self, state: Mapping[str, Tensor]) -> None:
        for name, buffer in self.module.named_buffers():
            buffer.copy_(state[name])

    def load(self, folder: Path) -> None:
        copy_into(self.shipped(), read_tensors(folder / WEIGHTS), folder)


def _fisher(linears: Sequence[nn.Module], weights: Sequence[Tensor], batches: Batches) -> Mapping[nn.Module, Tensor]:
    """(features given,) of every map: sums of squared gradients of single examples, over the rows of its weight."""
    linear_of = dict(zip(weights, linears, strict=True))
    fisher = {linear: torch.zeros_like(summed(linear, weight.detach())) for weight, linear in linear_of.items()}

    def add(weight: Tensor, gradient: Tensor) -> None:
        fisher[linear_of[weight]] += summed(linear_of[weight], gradient.float().square())

    use_gradients(weights, batches, add)
    return fisher


def _magnitude(linear: Any) -> Tensor:
    return summed(linear, linear.weight.detach().abs())


def _fill(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """The first time, the module has no values and takes these tensors for its own."""
    values = {name: each.to(trained_in(each)) for name, each in values.items()}
    module.load_state_dict(values, assign=any(each.is_meta for each in module.parameters()))


def _with_cache(call: Call, another: Callable[[Cache], Cache | None]) -> Call:
    """The call with another cache in the place of its own."""

    def given(value: Any) -> Any:
        return another(value) if isinstance(value, Cache) else value

    return Call(call.states, tuple(map(given, call.inputs)), {name: given(each) for name, each in call.named.items()})


def _try(side: SideLayer, call: Call, architecture: str) -> None:
    """One step of the side network. Raises CannotAttach where the narrow layer does not run like its counterpart."""
    call = _with_cache(call, lambda _: None)
    own = {**dict(side.named_parameters()), **dict(side.named_buffers())}
    tensors = {
        name: call.states.new_empty(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor
        for name, tensor in own.items()
    }
    z = call.states.new_zeros(*call.states.shape[:2], side.down.out_features, dtype=side.down.weight.dtype)
    try:
        with evaluating(side), torch.no_grad(), torch.device(call.states.device):
            functional_call(side, tensors, (z, call.states, call.inputs, call.named))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise CannotAttach(f"a narrow layer of {architecture} does not run beside its own: {reason}") from error
