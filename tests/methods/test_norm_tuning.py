"""Norm tuning trains the norms that are there, wherever they are, and nothing else."""

import pytest
from transformers import BertForMaskedLM

from autopeft.backbone.sites import Sites
from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from tests.backbone.architectures import new
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, tiny


def trained_names(model, **settings):
    with attach(model, method("norm_tuning", **settings)) as attached:
        return {each.name for each in attached.tensors()}


def test_all_norms_are_trained_that_of_the_embeddings_too():
    model = tiny("bert")
    assert trained_names(model) == {name for name, _ in model.named_parameters() if "LayerNorm" in name}


def test_a_final_norm_and_norms_without_a_shift_are_trained():
    assert "norm.weight" in trained_names(tiny("llama"))
    assert not any(name.endswith(".bias") for name in trained_names(tiny("llama")))
    assert {"ln_f.weight", "ln_f.bias"} < trained_names(tiny("gpt2"))


def test_norms_of_queries_and_keys_are_trained():
    assert {"layers.0.self_attn.q_norm.weight", "layers.0.self_attn.k_norm.weight"} < trained_names(new("qwen3"))


def test_of_chosen_layers_no_norm_outside_them_is_trained():
    names = trained_names(tiny("gpt2"), layers="last 1")
    assert names == {f"h.1.{norm}.{of}" for norm in ("ln_1", "ln_2") for of in ("weight", "bias")}


def test_a_norm_of_the_head_belongs_to_the_head():
    assert all(name.startswith("bert.") for name in trained_names(BertForMaskedLM(CONFIGS["bert"]())))


def test_norms_are_never_decayed():
    with attach(tiny("bert"), "norm_tuning") as attached:
        assert not any(each.decay for each in attached.tensors())


def test_together_with_bitfit_shifts_are_trained_once():
    with attach(tiny("bert"), ["norm_tuning", "bitfit"]) as both:
        counts = [attach(tiny("bert"), name).count for name in ("norm_tuning", "bitfit")]
        assert both.count == sum(counts) - 5 * 48


def test_together_with_bitfit_it_is_saved_and_read_back(tmp_path):
    attached = disturbed(attach(tiny("bert"), ["norm_tuning", "bitfit"]))
    attached.save(tmp_path)
    with attach(tiny("bert"), ["norm_tuning", "bitfit"]) as again:
        again.load(tmp_path)
        pairs = zip(attached.tensors(), again.tensors(), strict=True)
        assert all((one.tensor == other.tensor).all() for one, other in pairs)


def test_a_backbone_without_norms_is_refused():
    with pytest.raises(CannotAttach, match="has no site 'norm'"):
        attach(tiny("bert"), "norm_tuning", Sites("Normless", 48, (), {}))
