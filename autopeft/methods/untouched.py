"""How many of a backbone's lowest layers methods leave alone, seen on the model itself and not asked of any method.

Whatever acts on a module leaves a trace there: another module or tensor in its place, a hook, another class, an
attribute (of which a forward is one), or a parameter that is trained. What does so outside the layers counts as below
them all: embeddings are, and of the rest it matters too little to be told apart.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Look:
    """What tells whether a module is as it was. It holds the module, so that no other one can have its identity."""

    module: nn.Module
    held: Mapping[str, int]
    """Identities of its own modules, parameters and buffers."""
    kind: tuple[type, frozenset[str]]
    """Its class, and the names of what it carries."""
    hooks: tuple[int, ...]

    @classmethod
    def at(cls, module: nn.Module) -> "Look":
        """The module as it is now."""
        own = {**module._modules, **module._parameters, **module._buffers}
        hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
        return cls(
            module,
            {name: id(each) for name, each in own.items()},
            (type(module), _carried(module)),
            tuple(key for each in hooks for key in each),
        )

    def still_holds(self, only_read: bool) -> bool:
        """Whether nothing was changed but by additions that its forward knows nothing of, and nothing is trained.
        Hooks do not count on what is `only_read`.
        """
        now = Look.at(self.module)
        trained = any(each is not None and each.requires_grad for each in self.module._parameters.values())
        same = all(now.held.get(name) == identity for name, identity in self.held.items())
        return same and not trained and now.kind == self.kind and (only_read or now.hooks == self.hooks)


def looked_at(model: nn.Module) -> tuple[Look, ...]:
    """Every module of a model as it is now."""
    return tuple(Look.at(module) for module in model.modules())


def _carried(module: nn.Module) -> frozenset[str]:
    """Of a whole model, which libraries write notes on, only what torch reads."""
    return frozenset(vars(module)) & ({"forward"} if hasattr(module, "config_class") else {*vars(module)})


def untouched_layers(before: Sequence[Look], layers: Sequence[nn.Module], only_read: Collection[nn.Module]) -> int:
    """How many of the lowest `layers` are as they were before, and so is all that is not in a layer."""
    layer_of = {inner: number for number, layer in reversed([*enumerate(layers)]) for inner in layer.modules()}
    untouched = len(layers)
    for look in before:
        number = layer_of.get(look.module, -1)
        if number < untouched and not look.still_holds(look.module in only_read):
            untouched = max(number, 0)
    return untouched


def still_modules(model: nn.Module, layers: Sequence[nn.Module], frozen: int) -> tuple[nn.Module, ...]:
    """What computes the same in every pass where so many of the lowest layers are frozen: these, and all that is in no
    layer, but for what holds layers, which may choose among them by chance.
    """
    if not frozen:
        return ()
    above = {inner for layer in layers[frozen:] for inner in layer.modules()}
    every = {*layers}
    return tuple(
        module
        for module in model.modules()
        if module not in above and (module in every or every.isdisjoint(module.modules()))
    )
