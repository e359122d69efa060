"""Quantised backbones: exact sums of packed bytes, and refusals; nothing here can run bitsandbytes itself."""

import pytest
import torch
from transformers import LlamaConfig

import autopeft
from autopeft.backbone.load import load_skeleton
from autopeft.costs.quantised import FORMATS, packing_of
from autopeft.errors import CannotAttach
from tests.tiny import tiny

LLAMA_3_8B = LlamaConfig(
    vocab_size=128_256,
    hidden_size=4096,
    intermediate_size=14_336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
)
MATRICES = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336)
REST = 128_256 * 4096 + 65 * 4096
"""Entries of the linear layers, and of the embedding and the norms."""


@pytest.mark.parametrize(("name", "bits"), [("nf4", 4 + 8 / 64 + 32 / (64 * 256)), ("int8", 8)])
def test_weights_of_llama_3_8b_take_what_the_formats_say(name: str, bits: float) -> None:
    costs = autopeft.predict(LLAMA_3_8B, autopeft.method("norm_tuning"), dtype=name, batch_size=1, length=16)
    assert costs.memory_by_part["weights"] == pytest.approx(MATRICES * bits / 8 + REST * 2, rel=0.001)


@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_packed_backbone_takes_less_than_the_same_in_bfloat16_by_what_packing_saves(
    architecture: str, name: str
) -> None:
    config = tiny(architecture).config
    plain, packed = (
        autopeft.predict(config, autopeft.method("lora"), dtype=dtype, batch_size=4, length=16)
        for dtype in ("bfloat16", name)
    )
    packing = packing_of(load_skeleton(config, torch.bfloat16).model, name)
    assert packed.memory_by_part["weights"] == plain.memory_by_part["weights"] - packing.saved
    assert 0 <= packed.memory - (plain.memory - packing.saved) <= packing.largest
    assert (packed.trainable, packed.flops) == (plain.trainable, plain.flops)


@pytest.mark.parametrize("method", ["full", "top_layers", "fishmask", "far", "ladder"])
def test_what_trains_packed_matrices_is_refused(method: str) -> None:
    reason = f"'{method}' needs gradients of the backbone's matrices, which nf4 would quantise"
    with pytest.raises(CannotAttach, match=reason):
        autopeft.predict(tiny("llama").config, autopeft.method(method), dtype="nf4", length=16)
