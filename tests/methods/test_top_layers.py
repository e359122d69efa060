"""Top-layer tuning trains the last layers whole, and differentiates nothing below them."""

import pytest
import torch

from autopeft.costs.api import measure
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from tests.methods.by_hand import disturbed
from tests.tiny import batch, tiny


def test_the_last_layers_are_trained_whole_and_nothing_else():
    model = tiny("bert")
    with attach(model, method("top_layers", count=1)) as attached:
        names = {each.name for each in attached.tensors()}
        assert names == {name for name, _ in model.named_parameters() if name.startswith("encoder.layer.1.")}


def test_the_backward_pass_ends_at_the_lowest_trained_layer():
    model = tiny("bert")
    with attach(model, method("top_layers", count=1)) as attached:
        states = attached.model(**batch(), output_hidden_states=True).hidden_states
        assert [state.requires_grad for state in states] == [False, False, True]


def test_fewer_layers_need_less_memory_and_work():
    one, two = (measure(tiny("gpt2"), method("top_layers", count=count), length=16) for count in (1, 2))
    assert one.memory < two.memory
    assert one.flops < two.flops
    assert one.trainable * 2 == two.trainable


def test_matrices_are_decayed_but_neither_norms_nor_biases():
    with attach(tiny("bert"), "top_layers") as attached:
        assert all(each.decay == (each.tensor.ndim == 2) for each in attached.tensors())


def test_what_is_kept_to_put_the_layers_back_lies_on_the_cpu_and_apart():
    model = tiny("bert")
    before = model.encoder.layer[1].output.dense.weight.clone()
    with attach(model, "top_layers") as attached:
        disturbed(attached)
        assert not torch.equal(model.encoder.layer[1].output.dense.weight, before)
    assert torch.equal(model.encoder.layer[1].output.dense.weight, before)


BELOW = method("lora", layers=[0])


@pytest.mark.parametrize("others", [[BELOW], ["adapter", "prefix_tuning"], ["bitfit", "norm_tuning"]], ids=str)
def test_beside_other_methods_the_same_tensors_are_trained_under_the_same_names(others):
    with attach(tiny("bert"), "top_layers") as alone:
        names = {each.name for each in alone.tensors()}
    with attach(tiny("bert"), ["top_layers", *others]) as attached:
        assert {each.name for each in attached.tensors() if each.part == 0} == names


def test_beside_lora_below_the_merged_weights_hold_both_changes():
    model = tiny("bert")
    attached = disturbed(attach(model, ["top_layers", BELOW]))
    with torch.no_grad():
        expected = attached.model(**batch()).last_hidden_state
        merged = attached.merge()
        assert torch.allclose(merged(**batch()).last_hidden_state, expected, atol=1e-5)


def test_more_layers_than_there_are_is_refused():
    with pytest.raises(CannotAttach, match="the top 3 layers are wanted; BertModel has 2"):
        attach(tiny("bert"), method("top_layers", count=3))


@pytest.mark.parametrize("count", [0, -1, 1.5])
def test_a_count_that_is_none_is_refused(count):
    with pytest.raises(AutopeftError, match="count"):
        method("top_layers", count=count)
