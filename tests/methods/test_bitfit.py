"""BitFit trains the biases that are there, and nothing that is merely called like one."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertForMaskedLM

from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from tests.backbone.architectures import new
from tests.tiny import CONFIGS, batch, tiny


def trained_names(model, **settings):
    with attach(model, method("bitfit", **settings)) as attached:
        return {each.name for each in attached.tensors()}


def test_all_biases_are_trained_those_of_norms_embeddings_and_pooler_too():
    model = tiny("bert")
    assert trained_names(model) == {name for name, _ in model.named_parameters() if name.endswith(".bias")}


def test_biases_of_named_sites_are_trained_alone():
    assert trained_names(tiny("bert"), biases=["q", "ffn.up"], layers=[1]) == {
        "encoder.layer.1.attention.self.query.bias",
        "encoder.layer.1.intermediate.dense.bias",
    }
    assert trained_names(tiny("bert"), biases="norm", layers="last 1") == {
        "encoder.layer.1.attention.output.LayerNorm.bias",
        "encoder.layer.1.output.LayerNorm.bias",
    }


def test_of_chosen_layers_no_bias_outside_them_is_trained():
    names = trained_names(tiny("bert"), layers="last 50%")
    assert len(names) == 8
    assert all(name.startswith("encoder.layer.1.") for name in names)


def test_of_a_fused_projection_the_whole_bias_is_trained():
    with attach(tiny("gpt2"), method("bitfit", biases=["q"])) as attached:
        assert attached.count == 2 * 3 * 48


def test_a_weight_of_relative_attention_bias_is_not_a_bias():
    model = new("t5")
    assert any("relative_attention_bias" in name for name, _ in model.named_parameters())
    with pytest.raises(CannotAttach, match="BitFit finds no biases to train in T5EncoderModel"):
        attach(model, "bitfit")


@pytest.mark.parametrize(
    ("architecture", "settings", "where"),
    [
        ("llama", {}, "its layers"),
        ("qwen2", {"biases": ["o", "ffn.up"]}, "its o, ffn.up"),
        ("qwen2", {"biases": "o"}, "its o"),
    ],
)
def test_where_there_are_no_biases_the_refusal_says_where(architecture, settings, where):
    with pytest.raises(CannotAttach, match=rf"BitFit finds no biases to train in \w+: {where} have none\."):
        attach(new(architecture), method("bitfit", **settings))


def test_a_model_with_biases_in_q_k_and_v_only_trains_those():
    names = trained_names(new("qwen2"))
    assert {name.rsplit(".", 2)[1] for name in names} == {"q_proj", "k_proj", "v_proj"}


def test_the_head_s_biases_belong_to_the_head():
    model = AutoModelForSequenceClassification.from_config(CONFIGS["bert"]())
    assert "classifier.bias" not in trained_names(model)
    assert all(name.startswith("bert.") for name in trained_names(BertForMaskedLM(CONFIGS["bert"]())))


def test_beside_peft_layers_the_same_biases_are_trained_under_the_same_names():
    alone = trained_names(tiny("bert"))
    with attach(tiny("bert"), ["bitfit", "lora", "ia3"]) as attached:
        assert {each.name for each in attached.tensors() if each.part == 0} == alone


def test_biases_are_never_decayed_and_move_nothing_but_themselves():
    model = tiny("bert")
    weights = {name: p.clone() for name, p in model.named_parameters() if not name.endswith(".bias")}
    attached = attach(model, "bitfit")
    assert not any(each.decay for each in attached.tensors())
    optimizer = torch.optim.AdamW(attached.parameters(), lr=0.1, weight_decay=0.5)
    attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
    optimizer.step()
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())
    assert not torch.equal(after["encoder.layer.0.output.dense.bias"], tiny("bert").encoder.layer[0].output.dense.bias)


def test_detaching_puts_the_biases_back_and_merging_keeps_them():
    for merged in (False, True):
        model, untouched = tiny("bert"), tiny("bert")
        attached = attach(model, "bitfit")
        with torch.no_grad():
            for parameter in attached.parameters():
                parameter.add_(1.0)
        if merged:
            attached.merge()
        attached.detach()
        same = torch.equal(model.encoder.layer[0].output.dense.bias, untouched.encoder.layer[0].output.dense.bias)
        assert same != merged
