"""Prefix tuning: keys and values of virtual tokens before those of the real ones, in the attention of every layer.

K <- [P_K; K] and V <- [P_V; V]; queries, positions and the feed-forward see no virtual tokens (Li and Liang 2021,
arXiv:2101.00190; without the MLP it is the deep prompt of P-tuning v2, Liu et al. 2022, arXiv:2110.07602). With
`hidden`, one embedding and an MLP make the prefixes of all layers while they are trained; only what it made is saved.

It comes in through transformers' attention interface, as an implementation that prepends and then calls SDPA, so
prefixes stack, go with any projection and any number of heads, and need no cache (gradient checkpointing works). A
forward pass shows which modules attend through the interface; where none does, the method is refused. peft's prefix
tuning gives the real tokens later positions, this one leaves them. Not covered: cross-attention. Layers that share
their weights (ALBERT) share a prefix.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from autopeft.backbone.find import forward_once
from autopeft.backbone.inputs import bare
from autopeft.backbone.sites import Layers, Sites, layer_numbers
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.base import Attachment, Method
from autopeft.methods.hooked import WEIGHTS, Hooked, copy_into, host, read_tensors, undone_on_error

IMPLEMENTATION = "sdpa_with_prefixes"
"""Name of our attention function in transformers' registry, and in a model's config while a prefix is attached."""
_PREFIXES = "_autopeft_prefixes"
"""Attribute of an attention module: one function per attached prefix, which gives its keys and values."""

_SWITCHED: dict[int, tuple[PretrainedConfig, str | None, int]] = {}
"""By a config's id: the config, its attention implementation before, and how many prefixes need ours there."""
_SEEN: "WeakKeyDictionary[nn.Module, Mapping[nn.Module, Shape]]" = WeakKeyDictionary()
"""By a model without weights, which nobody trains or changes: what its forward pass showed."""


@dataclass(frozen=True)
class Shape:
    """What one layer's attention takes: grouped queries have fewer heads of keys than of queries."""

    heads: int
    key: int
    """Features of a head's key."""
    value: int
    """Features of a head's value."""


@dataclass(frozen=True)
class PrefixTuning(Method):
    """Trained keys and values before the real ones."""

    lacks = MappingProxyType({"packable": "kernels that keep the examples of a row apart have no place for its prefix"})

    length: int = 20
    """Virtual tokens."""
    hidden: int = 0
    """Width of the MLP that makes the prefixes in training; 0: the prefixes themselves are trained."""
    layers: Layers = "all"
    """Layers that get a prefix."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise AutopeftError(f"length must be at least 1, not {self.length}.")
        if self.hidden < 0:
            raise AutopeftError(f"hidden must not be below 0, not {self.hidden}.")

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        found = attention_of(model, sites, self.layers)
        device, dtype = host(model, sites.layers[min(found)])
        shapes = {str(number): shape for number, (_, shape) in found.items()}
        with torch.device(device):
            prefixes = Prefixes(shapes, self.length, sites.width, self.hidden).to(dtype)
        with undone_on_error(PrefixAttachment(model, prefixes)) as attached:
            assert isinstance(attached, PrefixAttachment)
            for number, (attention, _) in found.items():
                attached.prepend(attention, partial(prefixes.of, str(number)))
        return attached


class Prefixes(nn.Module):
    """The prefixes of all layers by the layer's number, (length, heads * features) each."""

    def __init__(self, shapes: Mapping[str, Shape], length: int, width: int, hidden: int) -> None:
        super().__init__()
        self._shapes = dict(shapes)
        self._made = hidden > 0
        if hidden:
            self.embedding = nn.Parameter(torch.randn(length, width))
            self.inner = nn.Linear(width, hidden)
            self.outer = nn.ModuleDict({n: nn.Linear(hidden, s.heads * (s.key + s.value)) for n, s in shapes.items()})
        else:
            self.keys = nn.ParameterDict({n: torch.randn(length, s.heads * s.key) for n, s in shapes.items()})
            self.values = nn.ParameterDict({n: torch.randn(length, s.heads * s.value) for n, s in shapes.items()})

    def of(self, number: str) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, (heads, length, features) each."""
        heads = self._shapes[number].heads
        keys, values = (each.reshape(len(each), heads, -1).transpose(0, 1) for each in self._flat(number))
        return keys, values

    def _flat(self, number: str) -> tuple[Tensor, Tensor]:
        if not self._made:
            return self.keys[number], self.values[number]
        shape = self._shapes[number]
        made: Tensor = self.outer[number](torch.tanh(self.inner(self.embedding)))
        return made[:, : shape.heads * shape.key], made[:, shape.heads * shape.key :]

    @torch.no_grad()
    def flat(self) -> Mapping[str, Tensor]:
        """All prefixes as free parameters would be named."""
        both = {number: self._flat(number) for number in self._shapes}
        keys = {f"keys.{number}": each for number, (each, _) in both.items()}
        return keys | {f"values.{number}": each for number, (_, each) in both.items()}

    def eject(self) -> None:
        """Discards the MLP: what it makes is free from now on."""
        if self._made:
            flat = {name: nn.Parameter(tensor.clone()) for name, tensor in self.flat().items()}
            self._made = False
            del self.embedding, self.inner, self.outer
            self.keys = nn.ParameterDict({number: flat[f"keys.{number}"] for number in self._shapes})
            self.values = nn.ParameterDict({number: flat[f"values.{number}"] for number in self._shapes})


class PrefixAttachment(Hooked):
    """Prefixes on a model whose attention implementation is ours until `detach`."""

    def __init__(self, model: nn.Module, prefixes: Prefixes, module: nn.Module | None = None) -> None:
        """`module` holds `prefixes` beside other weights; None: there are no others."""
        super().__init__(model, prefixes if module is None else module)
        self._prefixes = prefixes
        self._prepended: list[tuple[nn.Module, Callable[[], tuple[Tensor, Tensor]]]] = []
        self._configs = _switch(model)

    def prepend(self, attention: nn.Module, prefix: Callable[[], tuple[Tensor, Tensor]]) -> None:
        """Lets an attention module attend to keys and values too, ([batch,] heads, length, features) each."""
        setattr(attention, _PREFIXES, (*getattr(attention, _PREFIXES, ()), prefix))
        self._prepended.append((attention, prefix))

    def shipped(self) -> Mapping[str, Tensor]:
        path = next(path for path, module in self.module.named_modules() if module is self._prefixes)
        inside = f"{path}." if path else ""
        others = {name: each for name, each in self.trainable().items() if path and not name.startswith(inside)}
        return others | {inside + name: each for name, each in self._prefixes.flat().items()}

    def load(self, folder: Path) -> None:
        """What was saved are the prefixes themselves, so from then on they are trained, and no MLP."""
        values = read_tensors(folder / WEIGHTS)
        copy_into({name: torch.empty_like(tensor) for name, tensor in self.shipped().items()}, values, folder)
        self._prefixes.eject()
        copy_into(self.trainable(), values, folder)

    def settle(self) -> None:
        self._prefixes.eject()

    def detach(self) -> None:
        super().detach()
        for attention, prefix in self._prepended:
            left = tuple(each for each in getattr(attention, _PREFIXES) if each is not prefix)
            setattr(attention, _PREFIXES, left) if left else delattr(attention, _PREFIXES)
        self._prepended.clear()
        _release(self._configs)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """SDPA over the prefixes on `module`, then the real keys; (batch, heads, length, features) each.

    Every query attends to every prefix, whatever the mask says of real tokens; a position bias is 0 there.
    """
    prefixes = [prefix() for prefix in getattr(module, _PREFIXES, ())]
    if prefixes:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        if attention_mask is None and causal and query.shape[2] > 1:
            every = torch.ones(1, 1, query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
            attention_mask = every.tril(key.shape[2] - query.shape[2])
        key = _after([keys for keys, _ in prefixes], key)
        value = _after([values for _, values in prefixes], value)
        more = sum(keys.shape[-2] for keys, _ in prefixes)
        if attention_mask is not None:
            attention_mask = pad(attention_mask, (more, 0), value=attention_mask.dtype == torch.bool)
        if position_bias is not None:
            position_bias = pad(position_bias, (more, 0))
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, is_causal=is_causal, position_bias=position_bias, **rest
    )


def _after(prefixes: list[Tensor], states: Tensor) -> Tensor:
    rows = [each.to(states.dtype).expand(len(states), -1, -1, -1) for each in prefixes]
    return torch.cat([*rows, states], dim=2)


def attention_of(model: nn.Module, sites: Sites, layers: Layers) -> Mapping[int, tuple[nn.Module, Shape]]:
    """The attention of the chosen layers. Raises CannotAttach where it bypasses transformers' interface."""
    seen = _seen(model, sites.architecture)
    paths = {module: path for path, module in model.named_modules()}
    numbers = layer_numbers(layers, len(sites.layers))
    why = "prefix tuning adds keys and values through transformers' attention interface"
    if not seen or not numbers:
        raise CannotAttach(f"{why}, and {sites.architecture} does not use it.")
    if not getattr(bare(model), "_supports_sdpa", False):
        raise CannotAttach(f"{why} and SDPA, and {sites.architecture} does not support SDPA.")
    found = {}
    for number in numbers:
        own = [module for module in seen if paths[module].startswith(sites.layers[number] + ".")]
        if not own:
            raise CannotAttach(f"{why}, and layer {number} of {sites.architecture} does not use it.")
        found[number] = own[0], seen[own[0]]
    return found


def _seen(model: nn.Module, architecture: str) -> Mapping[nn.Module, Shape]:
    """The modules that attend through the interface in a forward pass, in order; remembered of a skeleton."""
    if model in _SEEN:
        return _SEEN[model]
    seen: dict[nn.Module, Shape] = {}

    def watch(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
    ) -> tuple[Tensor, None]:
        if attention_mask is not None and attention_mask.ndim != 4:
            raise ValueError(f"its attention mask has {attention_mask.ndim} dimensions, not 4")
        seen.setdefault(module, Shape(key.shape[1], key.shape[3], value.shape[3]))
        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)

    configs = _switch(model)
    AttentionInterface.register(IMPLEMENTATION, watch)
    try:
        with _undisturbed(model), torch.no_grad():
            forward_once(bare(model))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise CannotAttach(f"{architecture} does not attend through SDPA: it raised {reason}") from error
    finally:
        AttentionInterface.register(IMPLEMENTATION, attend)
        _release(configs)
    if next(model.parameters()).is_meta:
        _SEEN[model] = seen
    return seen


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode, and without hooks: those of other methods may draw random numbers or hold weights of another kind."""
    hooks = [each for module in model.modules() for each in (module._forward_hooks, module._forward_pre_hooks)]
    kept = [(each, dict(each)) for each in hooks]
    modes = {module: module.training for module in model.modules()}
    try:
        for each in hooks:
            each.clear()
        model.eval()
        yield
    finally:
        for each, content in kept:
            each.update(content)
        for module, training in modes.items():
            module.training = training


def _switch(model: nn.Module) -> list[PretrainedConfig]:
    """Makes ours the attention implementation, with SDPA's masks; returns the configs that say so."""
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
    AttentionInterface.register(IMPLEMENTATION, attend)
    owned = (getattr(module, "config", None) for module in model.modules())
    configs = {id(config): config for config in owned if isinstance(config, PretrainedConfig)}
    for key, config in configs.items():
        _, before, holders = _SWITCHED.get(key, (config, config._attn_implementation_internal, 0))
        _SWITCHED[key] = config, before, holders + 1
        config._attn_implementation_internal = IMPLEMENTATION
    return list(configs.values())


def _release(configs: list[PretrainedConfig]) -> None:
    """Undoes one `_switch`; a config that others hold too (models may share one) is put back by the last."""
    for config in configs:
        _, before, holders = _SWITCHED.pop(id(config))
        if holders > 1:
            _SWITCHED[id(config)] = config, before, holders - 1
        else:
            config._attn_implementation_internal = before
    configs.clear()
