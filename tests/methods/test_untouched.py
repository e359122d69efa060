"""Whatever acts on a layer is seen on the layer; what lies below the lowest such one is frozen."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from autopeft.methods.untouched import looked_at, still_modules, untouched_layers
from tests.tiny import tiny


class Toy(nn.Module):
    """An embedding, four layers and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, 3)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)) for _ in range(4))
        self.norm = nn.LayerNorm(3)
        self.requires_grad_(False)


class Other(nn.Linear):
    """Another class of the same values."""


def _frozen(toy: Toy, act: Callable[[Toy], object], only_read: tuple[nn.Module, ...] = ()) -> int:
    before = looked_at(toy)
    act(toy)
    return untouched_layers(before, list(toy.layers), only_read)


def hook(module: nn.Module) -> None:
    module.register_forward_hook(lambda *_: None)


ACTS: dict[str, Callable[[nn.Module], object]] = {
    "a hook after it": hook,
    "a hook before it": lambda layer: layer[0].register_forward_pre_hook(lambda *_: None),
    "another module": lambda layer: setattr(layer, "0", nn.Linear(3, 3).requires_grad_(False)),
    "another tensor": lambda layer: setattr(layer[0], "weight", nn.Parameter(torch.ones(3, 3), requires_grad=False)),
    "a trained tensor": lambda layer: layer[0].bias.requires_grad_(True),
    "another class": lambda layer: setattr(layer[0], "__class__", Other),
    "a forward of its own": lambda layer: setattr(layer[0], "forward", lambda x: x),
    "an attribute": lambda layer: setattr(layer[0], "prefix", None),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_layers_are_untouched_below_the_lowest_that_something_acts_on(act: Callable[[nn.Module], object]) -> None:
    assert _frozen(Toy(), lambda toy: act(toy.layers[2])) == 2
    assert _frozen(Toy(), lambda toy: (act(toy.layers[3]), act(toy.layers[1]))) == 1


def test_all_layers_are_untouched_where_nothing_acts_and_none_where_something_does_outside() -> None:
    assert _frozen(Toy(), lambda _: None) == 4
    assert _frozen(Toy(), lambda toy: hook(toy.embedding)) == 0


def test_hooks_that_only_read_do_not_count_and_whatever_else_does() -> None:
    toy = Toy()
    assert _frozen(toy, lambda toy: hook(toy.layers[1]), only_read=(toy.layers[1],)) == 4
    assert _frozen(toy, lambda toy: toy.layers[1].requires_grad_(True), only_read=(toy.layers[1],)) == 1


def test_what_is_still_are_frozen_layers_and_what_is_in_none_but_not_what_holds_layers() -> None:
    toy = Toy()
    below = {*toy.layers[0].modules(), *toy.layers[1].modules()}
    assert {*still_modules(toy, list(toy.layers), 2)} == below | {toy.embedding, toy.norm}
    assert still_modules(toy, list(toy.layers), 0) == ()


def test_of_several_methods_the_lowest_counts() -> None:
    model = tiny("bert", layers=4)
    with attach(model, [method("lora", layers="last 25%"), method("bitfit", layers="last 50%")]) as attached:
        assert list(attached.frozen) == [*model.encoder.layer[:2]]
    with attach(model, [method("lora", layers="last 25%"), method("prompt_tuning")]) as attached:
        assert attached.frozen == ()
