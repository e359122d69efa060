"""Bottleneck adapters against their formulas, written out by hand on a tiny BERT and on a tiny pre-norm Llama."""

import pytest
import torch
from torch.nn.functional import gelu, relu

from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from tests.methods.by_hand import Changes, bert_by_hand, disturbed
from tests.tiny import batch, tiny

PLACEMENTS = ("houlsby", "pfeiffer", "parallel", "scaled_parallel")


def adapter_by_hand(attached, activation=gelu):
    """A(x) = U act(D x + b_D) + b_U of layer and site, from the named tensors alone."""
    tensors = attached.parts[0].trainable()

    def of(number, site, x):
        down, up = f"{number}_{site}.down", f"{number}_{site}.up"
        inner = activation(x @ tensors[f"{down}.weight"].T + tensors[f"{down}.bias"])
        return inner @ tensors[f"{up}.weight"].T + tensors[f"{up}.bias"]

    return of


def learned_scale(attached, number):
    return attached.parts[0].trainable()[f"{number}_ffn.scale"]


def test_the_forward_pass_by_hand_is_that_of_bert():
    model = tiny("bert")
    with torch.no_grad():
        states = bert_by_hand(model, batch())
        real = batch()["attention_mask"].bool()
        assert torch.allclose(states[real], model(**batch()).last_hidden_state[real], atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_each_placement_computes_its_formula(placement, activation):
    model, scale = tiny("bert"), 4.0 if placement.endswith("parallel") else 1.0
    what = method("adapter", placement=placement, bottleneck=6, activation=activation, scale=scale)
    attached = disturbed(attach(model, what))
    adapter = adapter_by_hand(attached, gelu if activation == "gelu" else relu)
    changes = {
        "houlsby": Changes(
            attention=lambda i, o, _: o + adapter(i, "attention", o),
            feed_forward=lambda i, f, _: f + adapter(i, "ffn", f),
        ),
        "pfeiffer": Changes(end=lambda i, f, h1, norm: norm(f + h1 + adapter(i, "ffn", norm.forward(f + h1)))),
        "parallel": Changes(feed_forward=lambda i, f, h1: f + 4.0 * adapter(i, "ffn", h1)),
        "scaled_parallel": Changes(
            feed_forward=lambda i, f, h1: f + learned_scale(attached, i) * adapter(i, "ffn", h1)
        ),
    }[placement]
    with torch.no_grad():
        states = attached.model(**batch()).last_hidden_state
        real = batch()["attention_mask"].bool()
        bare = tiny("bert")
        assert torch.allclose(states[real], bert_by_hand(bare, batch(), changes)[real], atol=1e-5)
        assert not torch.allclose(states[real], bert_by_hand(bare, batch())[real], atol=1e-2)


@pytest.mark.parametrize("placement", ["pfeiffer", "parallel", "scaled_parallel"])
def test_on_a_pre_norm_layer_each_placement_computes_its_formula(placement):
    model, seen = tiny("llama"), {}
    last = model.layers[-1]
    last.mlp.register_forward_hook(lambda _, inputs, output: seen.update(x=inputs[0], f=output))
    last.register_forward_hook(lambda _, __, output: seen.update(h=output))
    with torch.no_grad():
        model(**batch())
        x, h = seen["x"], seen["h"]
        attached = disturbed(attach(model, method("adapter", placement=placement, bottleneck=6, layers="last 1")))
        adapter = adapter_by_hand(attached)
        added = {
            "pfeiffer": lambda: adapter(1, "ffn", h),
            "parallel": lambda: adapter(1, "ffn", x),
            "scaled_parallel": lambda: learned_scale(attached, 1) * adapter(1, "ffn", x),
        }[placement]()
        assert torch.allclose(attached.model(**batch()).last_hidden_state, model.norm(h + added), atol=1e-5)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_output_is_the_backbone_s_exactly_while_u_and_its_bias_are_zero(placement):
    model = tiny("bert")
    with torch.no_grad():
        bare = model(**batch()).last_hidden_state
        attached = attach(model, method("adapter", placement=placement))
        for name, tensor in attached.parts[0].trainable().items():
            if ".down." in name or name.endswith("scale"):
                tensor.normal_()
        assert torch.equal(attached.model(**batch()).last_hidden_state, bare)


def test_an_adapter_begins_with_u_and_biases_at_zero_and_d_not():
    tensors = attach(tiny("bert"), method("adapter", placement="scaled_parallel", scale=2)).parts[0].trainable()
    for name, tensor in tensors.items():
        if name.endswith("down.weight"):
            assert tensor.any()
        elif name.endswith("scale"):
            assert tensor.tolist() == [2.0]
        else:
            assert not tensor.any()


def test_a_houlsby_adapter_comes_after_the_dropout_of_its_sublayer():
    model = tiny("bert")
    attached = disturbed(attach(model, method("adapter", placement="houlsby")))
    seen = []
    for number in (0, 1):
        attached.modules[0][f"{number}_ffn"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 1.0
    model.train()
    attached.model(**batch())
    assert len(seen) == 2
    assert not any(dropped.any() for dropped in seen)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("layers", ["first 1", "last 1", [0]])
def test_only_chosen_layers_get_an_adapter(placement, layers):
    number = 1 if layers == "last 1" else 0
    attached = attach(tiny("bert"), method("adapter", placement=placement, layers=layers))
    sites = ("attention", "ffn") if placement == "houlsby" else ("ffn",)
    assert set(attached.modules[0]) == {f"{number}_{site}" for site in sites}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_weights_are_in_fp32_on_a_bf16_model(placement):
    model = tiny("bert").to(torch.bfloat16)
    attached = attach(model, method("adapter", placement=placement))
    assert {parameter.dtype for parameter in attached.parameters()} == {torch.float32}
    states = attached.model(**batch()).last_hidden_state
    assert states.dtype == torch.bfloat16
    states.float().pow(2).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in attached.parameters())


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_scales_and_biases_are_not_decayed_and_matrices_are(placement):
    decayed = {each.name: each.decay for each in attach(tiny("bert"), method("adapter", placement=placement)).tensors()}
    assert all(decays == name.endswith("weight") for name, decays in decayed.items())
