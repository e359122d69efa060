"""A method of peft's is peft's own model: with the config that a user of peft would write, and the same weights."""

import peft
import pytest
import torch

from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from tests.methods.by_hand import disturbed
from tests.tiny import batch, tiny

QV = {"target_modules": ["query", "value"]}
SITES = ["q", "k", "v", "o", "ffn.up", "ffn.down"]
ALL_SIX = {"target_modules": ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]}
IA3 = {
    "target_modules": r".*(attention\.self\.(key|value)|layer\.\d+\.output\.dense)",
    "feedforward_modules": r".*layer\.\d+\.output\.dense",
}
PROMPT = {"task_type": "FEATURE_EXTRACTION", "num_virtual_tokens": 7}
ON_BERT = [
    (method("lora", rank=4, alpha=12), peft.LoraConfig(r=4, lora_alpha=12, **QV)),
    (method("lora", rank=4, sites=SITES), peft.LoraConfig(r=4, lora_alpha=16, **ALL_SIX)),
    (
        method("lora", layers="last 50%"),
        peft.LoraConfig(r=8, lora_alpha=16, layers_to_transform=[1], layers_pattern="layer", **QV),
    ),
    (method("lora", dropout=0.1), peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.1, **QV)),
    (method("lora", rslora=True), peft.LoraConfig(r=8, lora_alpha=16, use_rslora=True, **QV)),
    (method("lora", dora=True), peft.LoraConfig(r=8, lora_alpha=16, use_dora=True, **QV)),
    (
        method("lora", dora=True, rslora=True, sites=SITES),
        peft.LoraConfig(r=8, lora_alpha=16, use_dora=True, use_rslora=True, **ALL_SIX),
    ),
    (
        method("adalora", initial_rank=6, rank=2, alpha=12),
        peft.AdaLoraConfig(init_r=6, target_r=2, lora_alpha=12, total_step=100, **QV),
    ),
    (method("vera", rank=5), peft.VeraConfig(r=5, **QV)),
    (method("vera", rank=5, sites=SITES), peft.VeraConfig(r=5, **ALL_SIX)),
    (method("krona"), peft.LoKrConfig(r=8, alpha=8, **QV)),
    (method("krona", factor=4, sites=SITES), peft.LoKrConfig(r=24, alpha=24, decompose_factor=4, **ALL_SIX)),
    (method("ia3"), peft.IA3Config(**IA3)),
    (method("ia3", sites=["k", "v"]), peft.IA3Config(target_modules=["key", "value"], feedforward_modules=[])),
    (method("prompt_tuning", length=7), peft.PromptTuningConfig(**PROMPT)),
    (method("p_tuning", length=7, hidden=9), peft.PromptEncoderConfig(**PROMPT, encoder_hidden_size=9)),
]
BY_DEFAULT = [
    *((each, method("lora"), peft.LoraConfig(r=8, lora_alpha=16)) for each in ("bert", "llama", "gpt2", "t5")),
    *((each, method("ia3"), peft.IA3Config()) for each in ("llama", "gpt2", "t5")),
    *((each, method("vera", rank=5), peft.VeraConfig(r=5)) for each in ("bert", "llama", "t5")),
    *((each, method("krona"), peft.LoKrConfig(r=24, alpha=24)) for each in ("bert", "llama", "t5")),
    *((each, method("prompt_tuning", length=7), peft.PromptTuningConfig(**PROMPT)) for each in ("llama", "gpt2", "t5")),
]
"""Where peft puts a method that is told no places is where its card puts it."""
CASES = [*(("bert", *each) for each in ON_BERT), *BY_DEFAULT]


@pytest.mark.parametrize(
    ("architecture", "what", "config"), CASES, ids=[f"{each[0]}-{each[1].name}-{i}" for i, each in enumerate(CASES)]
)
def test_states_gradients_and_merged_weights_are_those_of_peft_s_own_model(architecture, what, config):
    ours = disturbed(attach(tiny(architecture), what))
    theirs = peft.get_peft_model(tiny(architecture), config).eval()
    own = {each.name: each.tensor for each in ours.tensors()}
    other = {name.replace(".default", ""): each for name, each in theirs.named_parameters() if each.requires_grad}
    assert own.keys() == other.keys()
    with torch.no_grad():
        for name, tensor in other.items():
            tensor.copy_(own[name])
    states = [model(**batch()).last_hidden_state for model in (ours.model, theirs)]
    assert torch.allclose(*states, atol=1e-5)
    for each in states:
        (each * torch.linspace(-1, 1, each.numel()).view_as(each)).sum().backward()
    for name, tensor in other.items():
        assert torch.allclose(own[name].grad, tensor.grad, rtol=1e-4, atol=1e-4)
    if ours.parts[0].mergeable:
        merged, expected = ours.merge().state_dict(), theirs.merge_and_unload().state_dict()
        assert merged.keys() == expected.keys()
        assert all(torch.allclose(merged[name], expected[name], atol=1e-6) for name in merged)
