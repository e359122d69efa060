"""How a backbone's layers are called, as a forward pass shows it, for a network that follows them layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from autopeft.backbone.find import forward_once
from autopeft.backbone.inputs import bare, named
from autopeft.backbone.sites import Sites
from autopeft.errors import CannotAttach
from autopeft.methods.passes import evaluating

_STATES = "hidden_states"
"""What layers call the states that they read, where these are named."""


@dataclass(frozen=True)
class Call:
    """What a layer got: its states, and what came beside them, by position and by name."""

    states: Tensor
    inputs: tuple[Any, ...]
    named: Mapping[str, Any]

    @classmethod
    def of(cls, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> "Call":
        """Whether to cache is not told to a narrow layer."""
        beside = {name: value for name, value in named.items() if name not in (_STATES, "use_cache")}
        return cls(inputs[0] if inputs else named[_STATES], inputs[1:], beside)


@dataclass(frozen=True)
class Observed:
    """What a forward pass of the backbone showed."""

    calls: Mapping[str, Call]
    """By the path of a layer."""
    end: nn.Module
    """The module that gives the last states, outside the layers unless it is one."""
    rotary: int
    """Features of a head that are turned by their position."""
    biased: bool
    """Whether layers get a tensor with a part for every head."""


def observed(model: nn.Module, sites: Sites) -> Observed:
    """Raises CannotAttach where the backbone cannot be followed."""
    architecture = sites.architecture
    layers = {path: model.get_submodule(path) for path in sites.layers}
    inside = {module for layer in layers.values() for module in layer.modules()} - set(layers.values())
    given: list[tuple[nn.Module, Tensor]] = []
    calls: dict[str, Call] = {}
    passes = 0

    def enters(path: str, _: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        nonlocal passes
        passes += 1
        calls[path] = Call.of(inputs, named)

    def gives(module: nn.Module, _: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        if isinstance(states, Tensor):
            given.append((module, states))

    backbone = bare(model)
    handles = [
        layer.register_forward_pre_hook(partial(enters, path), with_kwargs=True) for path, layer in layers.items()
    ]
    handles += [each.register_forward_hook(gives) for each in backbone.modules() if each not in inside]
    try:
        with evaluating(model), torch.no_grad():
            last = forward_once(backbone)[0]
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise CannotAttach(f"called with {named(model)}, {architecture} raised {reason}") from error
    finally:
        for handle in handles:
            handle.remove()
    if passes != len(layers) or len(calls) != len(layers):
        raise CannotAttach(f"layers of {architecture} run several times each, and would be followed once.")
    storage = last.untyped_storage()
    end = next((module for module, states in given if states.untyped_storage() is storage), None)
    if end is None:
        raise CannotAttach(f"no module of {architecture} gives its last states, so nothing can stand for them.")
    width = calls[sites.layers[0]].states.shape[-1]
    got = [value for call in calls.values() for value in (*call.inputs, *call.named.values())]
    others = [value for value in got if isinstance(value, Tensor) and value.is_floating_point() and value.ndim < 4]
    if any(value.shape[-1] == width for value in others):
        raise CannotAttach(f"layers of {architecture} read tensors beside their states that are as wide.")
    turns = next((value[0] for value in got if are_rotary(value)), None)
    if turns is not None and not isinstance(turns, FakeTensor) and not _turned_by_halves(turns):
        raise CannotAttach(f"{architecture} turns neighbouring features by their position, not halves of a head.")
    biased = any(is_by_head(value, heads_of(model)) for value in got)
    return Observed(calls, end, 0 if turns is None else turns.shape[-1], biased)


def heads_of(model: nn.Module) -> int:
    """How many heads of queries every layer has; 0 where the configuration does not tell one number for all."""
    heads = getattr(getattr(model, "config", None), "num_attention_heads", None)
    return heads if isinstance(heads, int) else 0


def are_rotary(value: Any) -> bool:
    """Whether this is a pair (cosines, sines), (batch, length, features) each."""
    pair = isinstance(value, tuple) and len(value) == 2 and all(isinstance(each, Tensor) for each in value)
    return pair and value[0].ndim == 3 and value[0].shape == value[1].shape


def _turned_by_halves(cosines: Tensor) -> bool:
    one, other = cosines.chunk(2, -1)
    return torch.equal(one, other)


def is_by_head(value: Any, heads: int) -> bool:
    """Whether this is (batch, heads, queries, keys), such as what positions add to the scores of attention."""
    return isinstance(value, Tensor) and value.ndim == 4 and value.shape[1] == heads > 1
