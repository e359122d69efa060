"""S4: layers in a spindle of four groups, each with a mixture of methods, and every layer with its equal share."""

from collections import Counter

import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel

from autopeft.backbone.sites import layer_numbers, spindle
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from autopeft.space.cards import load_cards, load_hybrids
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, batch, tiny

MIXTURES = (
    {"adapter", "lora"},
    {"adapter", "prefix_tuning"},
    {"adapter", "prefix_tuning", "bitfit"},
    {"prefix_tuning", "bitfit", "lora"},
)


def six_layers(architecture="bert"):
    torch.manual_seed(0)
    config = CONFIGS[architecture]()
    config.num_hidden_layers = 6
    return AutoModel.from_config(config).eval()


def layer_of(name):
    return next(int(part) for part in name.replace("_", ".").split(".") if part.isdigit())


@pytest.mark.parametrize("count", [count for count in range(6, 97) if count != 7])
def test_the_groups_are_all_layers_in_order_and_the_middle_two_are_equal_and_the_largest(count):
    groups = spindle(count)
    assert [number for group in groups for number in group] == list(range(count))
    first, second, third, last = map(len, groups)
    assert 1 <= first <= last < second == third
    assert abs(3 * second - count) <= 3


def test_twelve_layers_are_two_four_four_and_two():
    assert [len(group) for group in spindle(12)] == [2, 4, 4, 2]
    assert layer_numbers("spindle 1 4", 12) == (0, 1, 10, 11)
    assert layer_numbers("spindle 3 2", 12) == tuple(range(2, 10))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_layers_that_make_no_spindle_are_refused(count):
    with pytest.raises(CannotAttach, match=f"{count} layers make no spindle of four groups"):
        layer_numbers("spindle 1", count)


@pytest.mark.parametrize("layers", ["spindle", "spindle 5", "spindle 0", "spindle1", "spindle 1,2"])
def test_what_names_no_group_is_no_choice_of_layers(layers):
    with pytest.raises(AutopeftError, match="names no layers"):
        layer_numbers(layers, 12)


def test_every_group_has_the_methods_that_the_paper_found_for_it():
    parts = method("s4").parts
    found = [{part.name for part in parts if str(n) in str(part.settings["layers"]).split()} for n in (1, 2, 3, 4)]
    assert tuple(found) == MIXTURES


def test_every_layer_of_a_bert_base_trains_about_the_same_number():
    with torch.device("meta"):
        model = BertModel(BertConfig())
        attached = attach(model, "s4")
    sizes = Counter()
    for each in attached.tensors():
        sizes[layer_of(each.name)] += each.tensor.numel()
    assert sorted(sizes) == list(range(12))
    assert [sizes[number] for number in (0, 2, 6, 10)] == [43_792, 45_328, 44_560, 45_312]
    assert max(sizes.values()) <= 45_617


def test_biases_are_those_of_their_groups_only():
    attached = attach(six_layers(), "s4")
    biases = [each.name for each in attached.tensors() if each.part == 5]
    assert {layer_of(name) for name in biases} == {3, 4, 5}


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_it_trains_is_saved_and_comes_off_bit_for_bit(architecture, tmp_path):
    model = six_layers(architecture)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attached = disturbed(attach(model, "s4"))
    attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
    assert all(
        each.tensor.grad.any() for each in attached.tensors() if not each.name.endswith(("key.bias", "c_attn.bias"))
    )
    with torch.no_grad():
        expected = attached.model(**batch()).last_hidden_state
        attached.save(tmp_path)
        again = attach_saved(six_layers(architecture), tmp_path)
        assert torch.equal(again.model(**batch()).last_hidden_state, expected)
    attached.detach()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("architecture", "layers"), [("bert", 2), ("llama", 2)])
def test_a_backbone_of_too_few_layers_is_refused(architecture, layers):
    with pytest.raises(CannotAttach, match=f"{layers} layers make no spindle"):
        attach(tiny(architecture), "s4")


def test_parts_that_are_the_same_method_have_names_of_their_own():
    parts = method("s4", prefix_2={"length": 3}, prefix_4={"length": 5}).parts
    assert [part.settings["length"] for part in parts if part.name == "prefix_tuning"] == [3, 7, 5]
    with pytest.raises(AutopeftError, match=r"unknown part of s4 'prefix_tuning'\. Did you mean 'prefix_\d'"):
        method("s4", prefix_tuning={"length": 3})


def test_two_parts_of_one_name_are_refused(tmp_path):
    (tmp_path / "hybrids").mkdir()
    (tmp_path / "hybrids" / "twice.yaml").write_text("parts: [{method: lora}, {method: lora}]\n")
    with pytest.raises(AutopeftError, match="a method that occurs more than once needs a name for each"):
        load_hybrids(load_cards(), tmp_path)
