"""Full fine-tuning trains every parameter of the backbone once, and puts every one of them back."""

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from autopeft.costs.api import measure
from autopeft.methods.attached import attach
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, batch, tiny


def test_every_parameter_of_the_backbone_is_trained_and_none_of_the_head():
    model = AutoModelForSequenceClassification.from_config(CONFIGS["bert"]())
    with attach(model, "full") as attached:
        assert {each.name for each in attached.tensors()} == {
            f"bert.{name}" for name, _ in model.bert.named_parameters()
        }


def test_tied_embeddings_are_trained_once():
    model = AutoModelForCausalLM.from_config(CONFIGS["gpt2"]())
    assert model.lm_head.weight is model.transformer.wte.weight
    with attach(model, "full") as attached:
        assert attached.count == sum(parameter.numel() for parameter in model.parameters())


def test_nothing_needs_more_memory():
    full = measure(tiny("bert"), "full", batch_size=2, length=16)
    for other in ("top_layers", "lora", "norm_tuning", "bitfit"):
        assert measure(tiny("bert"), other, batch_size=2, length=16).memory < full.memory
    assert full.stored == 4 * full.trainable


def test_merging_keeps_the_trained_values_and_detaching_alone_does_not():
    for merged in (False, True):
        model, untouched = tiny("bert"), tiny("bert")
        attached = disturbed(attach(model, "full"))
        if merged:
            attached.merge()
        attached.detach()
        pairs = zip(model.parameters(), untouched.parameters(), strict=True)
        assert {torch.equal(one, other) for one, other in pairs} == {not merged}


def test_parameters_that_peft_added_are_not_the_backbone_s_own():
    with attach(tiny("bert"), "full") as alone:
        names = {each.name for each in alone.tensors()}
    with attach(tiny("bert"), ["full", "prompt_tuning", "adapter"]) as attached:
        assert {each.name for each in attached.tensors() if each.part == 0} == names
        attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
