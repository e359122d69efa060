"""PiSSA, LoRA that begins with a weight's largest singular directions: what it takes off the weights, it gives back."""

import json

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import linear

from autopeft.costs.api import predict
from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, batch, tiny

STARTS = ("pissa", "pissa_niter_4")


def pissa(start="pissa", **settings):
    return method("lora", start=start, rank=4, alpha=8, **settings)


def output(model):
    with torch.no_grad():
        return model(**batch()).last_hidden_state


def test_it_begins_with_the_largest_singular_directions_and_leaves_the_rest_in_the_weight():
    model = tiny("bert")
    whole = tiny("bert").encoder.layer[0].attention.self.query.weight.detach()
    attach(model, pissa(sites=["q"]))
    layer = model.encoder.layer[0].attention.self.query
    with torch.no_grad():
        a, b = layer.lora_A["autopeft0"].weight, layer.lora_B["autopeft0"].weight
        u, s, v = torch.linalg.svd(whole)
        assert torch.allclose(8 / 4 * b @ a, u[:, :4] * s[:4] @ v[:4], atol=1e-5)
        assert torch.allclose(layer.base_layer.weight, whole - 8 / 4 * b @ a, atol=1e-6)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("architecture", CONFIGS)
def test_it_begins_at_the_backbone_trains_is_saved_merged_and_taken_off_bit_for_bit(architecture, start, tmp_path):
    model, untouched = tiny(architecture), tiny(architecture)
    bare = output(model)
    attached = attach(model, pissa(start))
    assert torch.allclose(output(attached.model), bare, atol=1e-4)
    optimizer = torch.optim.AdamW(attached.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        attached.model(**batch()).last_hidden_state.pow(2).mean().backward()
        optimizer.step()
    expected = output(attached.model)
    assert not torch.allclose(expected, bare, atol=1e-3)
    attached.save(tmp_path)
    attached.detach()
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), untouched.parameters(), strict=True))
    again = attach_saved(model, tmp_path)
    assert torch.equal(output(again.model), expected)
    assert torch.allclose(output(again.merge()), expected, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}], ids=str)
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_what_it_saves_is_a_plain_lora_on_the_backbone_as_it_was(architecture, options, tmp_path):
    attached = disturbed(attach(tiny(architecture), pissa("pissa_niter_4", **options)))
    attached.save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (8, True)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) == attached.stored
    theirs = peft.PeftModel.from_pretrained(tiny(architecture), str(tmp_path)).eval()
    assert torch.allclose(output(theirs), output(attached.model), atol=1e-4)


def test_what_another_random_decomposition_began_with_is_read_from_the_file(tmp_path):
    torch.manual_seed(1)
    attached = disturbed(attach(tiny("bert"), pissa("pissa_niter_1")))
    attached.save(tmp_path)
    torch.manual_seed(2)
    model = tiny("bert")
    again = attach_saved(model, tmp_path)
    assert torch.equal(output(again.model), output(attached.model))
    again.detach()
    assert torch.equal(output(model), output(tiny("bert")))


def test_around_and_beneath_other_methods_it_is_saved_and_taken_off(tmp_path):
    for order in (["ia3", pissa(sites=["k"])], [pissa(sites=["k"]), "ia3", "adapter"]):
        model = tiny("bert")
        attached = disturbed(attach(model, order))
        expected = output(attached.model)
        attached.save(tmp_path)
        assert torch.equal(output(attach_saved(tiny("bert"), tmp_path).model), expected)
        attached.detach()
        assert torch.equal(output(model), output(tiny("bert")))


def test_a_merged_change_is_that_of_the_trained_factors_less_those_it_began_with():
    model = tiny("bert")
    attached = attach(model, pissa(sites=["q"]))
    layer = model.encoder.layer[1].attention.self.query
    began = (layer.lora_B["autopeft0"].weight @ layer.lora_A["autopeft0"].weight).detach()
    disturbed(attached)
    change = 8 / 4 * (layer.lora_B["autopeft0"].weight @ layer.lora_A["autopeft0"].weight - began).detach()
    merged = attached.merge().encoder.layer[1].attention.self.query
    before = tiny("bert").encoder.layer[1].attention.self.query
    x = torch.randn(3, 48)
    with torch.no_grad():
        assert torch.allclose(merged(x), linear(x, before.weight + change, before.bias), atol=1e-4)


def test_its_costs_are_predicted_without_a_decomposition(monkeypatch):
    def never(*_, **__):
        raise AssertionError("there is nothing to decompose")

    for name in ("svd", "qr"):
        monkeypatch.setattr(torch.linalg, name, never)
    monkeypatch.setattr("peft.tuners.lora.layer.svd_lowrank", never)
    plain = predict(CONFIGS["bert"](), method("lora", rank=4), batch_size=2, length=8)
    for start in STARTS:
        costs = predict(CONFIGS["bert"](), pissa(start), batch_size=2, length=8)
        assert (costs.trainable, costs.memory, costs.flops) == (plain.trainable, plain.memory, plain.flops)
        assert costs.stored == 2 * plain.stored


def test_an_unknown_start_is_refused():
    model = tiny("bert")
    with pytest.raises(CannotAttach, match="Unknown initialization"):
        attach(model, method("lora", start="pizza"))
    with pytest.raises(CannotAttach, match="init_lora_weights should be 'pissa' or"):
        attach(model, method("lora", start="pissa4"))
    with pytest.raises(CannotAttach, match="would change the backbone for good: take 'pissa'"):
        attach(model, method("lora", start="olora"))
    assert torch.equal(output(model), output(tiny("bert")))
