"""Compacter against its formula, written out with Kronecker products on a tiny BERT."""

import pytest
import torch
from transformers.activations import ACT2FN

from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.compacter import HypercomplexLinear
from autopeft.methods.registry import method
from tests.methods.by_hand import Changes, bert_by_hand, disturbed
from tests.tiny import batch, tiny


def weight(linear, rule):
    """(in, out): Σ_i R_i ⊗ (s_i t_i)"""
    return sum(torch.kron(each, s @ t) for each, s, t in zip(rule, linear.left, linear.right, strict=True))


def compacter_by_hand(attached):
    module = attached.modules[0]

    def of(number, site, x):
        down, up = (getattr(module[f"{number}_{site}"], name) for name in ("down", "up"))
        inner = ACT2FN["gelu_new"](x @ weight(down, module.rule) + down.bias)
        return inner @ weight(up, module.rule) + up.bias

    return of


@pytest.mark.parametrize(("factor", "rank"), [(1, 1), (2, 3), (4, 1), (8, 2)])
def test_a_linear_map_never_forms_its_weight_but_computes_with_it(factor, rank):
    linear = HypercomplexLinear(48, 16, factor, rank)
    torch.nn.init.normal_(linear.bias)
    rule, x = torch.randn(factor, factor, factor), torch.randn(2, 3, 48)
    with torch.no_grad():
        assert torch.allclose(linear(x, rule), x @ weight(linear, rule) + linear.bias, atol=1e-4)
        assert torch.linalg.matrix_rank(weight(linear, rule), atol=1e-4) <= factor * rank * factor


def test_with_factor_1_a_weight_is_a_scaled_low_rank_matrix():
    linear = HypercomplexLinear(48, 16, 1, 2)
    with torch.no_grad():
        scaled = 3.0 * linear.left[0] @ linear.right[0]
        assert torch.allclose(weight(linear, torch.tensor([[[3.0]]])), scaled, atol=1e-6)


@pytest.mark.parametrize("placement", ["compacter", "compacter++"])
def test_each_placement_computes_its_formula(placement):
    attached = disturbed(attach(tiny("bert"), method("compacter", placement=placement, bottleneck=8, rank=2)))
    adapter = compacter_by_hand(attached)
    changes = {"feed_forward": lambda i, f, _: f + adapter(i, "ffn", f)}
    if placement == "compacter":
        changes["attention"] = lambda i, o, _: o + adapter(i, "attention", o)
    with torch.no_grad():
        states = attached.model(**batch()).last_hidden_state
        real = batch()["attention_mask"].bool()
        assert torch.allclose(states[real], bert_by_hand(tiny("bert"), batch(), Changes(**changes))[real], atol=1e-5)
        assert not torch.allclose(states[real], bert_by_hand(tiny("bert"), batch())[real], atol=1e-2)


def test_all_adapters_share_one_rule_which_is_counted_once_and_learns_from_all():
    attached = disturbed(attach(tiny("bert"), method("compacter", factor=4)))
    shapes = [tuple(each.tensor.shape) for each in attached.tensors()]
    assert shapes.count((4, 4, 4)) == 1
    gradients = []
    for kept in ("0_attention", "1_ffn"):
        attached.modules[0].rule.grad = None
        for name, each in attached.modules[0].items():
            each.requires_grad_(name == kept)
        attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
        gradients.append(attached.modules[0].rule.grad)
    assert all(each.any() for each in gradients)


def test_it_begins_with_biases_at_zero_and_a_rule_near_it():
    module = attach(tiny("bert"), method("compacter", factor=8)).modules[0]
    assert 0.5e-4 < module.rule.std() < 2e-4
    for each in module.values():
        for linear in (each.down, each.up):
            assert not linear.bias.any()
            for factors in (linear.left, linear.right):
                rows, columns = factors.shape[1:]
                bound = 2**0.5 * (6 / (rows + columns)) ** 0.5
                assert 0.5 * bound < factors.abs().max() <= bound


def test_only_biases_are_not_decayed():
    for each in attach(tiny("bert"), "compacter").tensors():
        assert each.decay == (not each.name.endswith("bias"))


@pytest.mark.parametrize(("placement", "sites"), [("compacter", {"attention", "ffn"}), ("compacter++", {"ffn"})])
def test_only_chosen_layers_get_an_adapter(placement, sites):
    attached = attach(tiny("bert"), method("compacter", placement=placement, layers="last 1"))
    assert set(attached.modules[0]) == {f"1_{site}" for site in sites}


def test_weights_are_in_fp32_on_a_bf16_model():
    attached = attach(tiny("bert").to(torch.bfloat16), "compacter")
    assert {parameter.dtype for parameter in attached.parameters()} == {torch.float32}
    states = attached.model(**batch()).last_hidden_state
    assert states.dtype == torch.bfloat16
    states.float().pow(2).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in attached.parameters())


def test_what_does_not_divide_is_refused():
    with pytest.raises(AutopeftError, match="bottleneck must be a multiple of factor 4, not 6"):
        method("compacter", bottleneck=6)
    model = tiny("bert")
    with pytest.raises(CannotAttach, match=r"factor 5 does not divide the 48 features of encoder\.layer\.0"):
        attach(model, method("compacter", bottleneck=10, factor=5))
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(AutopeftError, match="Did you mean 'compacter\\+\\+'"):
        method("compacter", placement="compacter+")
