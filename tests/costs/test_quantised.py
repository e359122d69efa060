"""Costs on quantised backbones: sums of packed bytes, and predictions against the meter on real steps."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import autopeft
from autopeft.backbone import quantised
from autopeft.backbone.load import load_skeleton
from autopeft.backbone.quantised import FORMATS
from autopeft.errors import AutopeftError, CannotAttach
from tests.costs.test_predict import headless
from tests.sampled import sampled
from tests.tiny import CONFIGS, tiny

LLAMA_3_8B = LlamaConfig(
    vocab_size=128_256,
    hidden_size=4096,
    intermediate_size=14_336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
)
SMOLLM2 = LlamaConfig(
    vocab_size=49_152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=6,
    num_attention_heads=9,
    num_key_value_heads=3,
    tie_word_embeddings=True,
)
"""Of fewer layers than SmolLM2's 30: `benchmarks/quantised.py` trains those."""
MATRICES = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336)
REST = 128_256 * 4096 + 65 * 4096
"""Entries of the linear layers, and of the embedding and the norms."""
ASKED: Any = {"batch_size": 4, "length": 16}


@pytest.fixture
def _without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ImportError("no bitsandbytes")

    monkeypatch.setattr(quantised, "_functional", absent)


@pytest.mark.usefixtures("_without_library")
@pytest.mark.parametrize(("name", "bits"), [("nf4", 4 + 8 / 64 + 32 / (64 * 256)), ("int8", 8)])
def test_weights_of_llama_3_8b_take_what_the_formats_say(name: str, bits: float) -> None:
    costs = autopeft.predict(LLAMA_3_8B, autopeft.method("norm_tuning"), dtype=name, batch_size=1, length=16)
    assert costs.memory_by_part["weights"] == pytest.approx(MATRICES * bits / 8 + REST * 2, rel=0.001)


@pytest.mark.usefixtures("_without_library")
@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_packed_backbone_takes_less_than_the_same_in_bfloat16_and_trains_the_same(
    architecture: str, name: str
) -> None:
    config = tiny(architecture).config
    plain, packed = (autopeft.predict(config, "lora", dtype=dtype, **ASKED) for dtype in ("bfloat16", name))
    weights = sum(each.numel() for each in load_skeleton(config).model.parameters() if each.ndim == 2)
    saved = plain.memory_by_part["weights"] - packed.memory_by_part["weights"]
    assert 0 < saved < 2 * weights
    assert (packed.trainable, packed.stored, packed.flops) == (plain.trainable, plain.stored, plain.flops)


@pytest.mark.parametrize(
    ("architecture", "method", "name", "checkpointing"),
    sampled(
        [("llama", "lora"), ("llama", "hira"), ("llama", "prefix_tuning"), ("gpt2", "ia3"), ("bert", "adapter")],
        FORMATS,
        [False, True],
        every=4,
    ),
)
def test_a_prediction_equals_the_meter_on_a_real_step_with_packed_matrices(
    architecture: str, method: str, name: str, checkpointing: bool
) -> None:
    pytest.importorskip("bitsandbytes")
    model = headless(architecture)
    before = {each: tensor.clone() for each, tensor in model.state_dict().items()}
    asked = {**ASKED, "dtype": name, "gradient_checkpointing": checkpointing}
    predicted, real = (
        autopeft.predict(CONFIGS[architecture](), method, **asked),
        autopeft.measure(model, method, **asked),
    )
    assert predicted.memory == pytest.approx(real.memory, rel=0.005)
    for part, size in real.memory_by_part.items():
        assert predicted.memory_by_part[part] == pytest.approx(size, rel=0.005, abs=0.005 * real.memory)
    assert (predicted.trainable, predicted.stored, predicted.flops) == (real.trainable, real.stored, real.flops)
    assert all(tensor.equal(before[each]) for each, tensor in model.state_dict().items())


@pytest.mark.long
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("method", ["lora", "ia3", "prefix_tuning"])
def test_of_a_model_of_the_shape_of_smollm2_memory_is_predicted_within_five_percent(method: str, name: str) -> None:
    pytest.importorskip("bitsandbytes")
    model = AutoModelForCausalLM.from_config(SMOLLM2)
    asked: Any = {"task": "text-generation", "batch_size": 4, "length": 32, "dtype": name}
    predicted, real = autopeft.predict(SMOLLM2, method, **asked), autopeft.measure(model, method, **asked)
    assert predicted.memory == pytest.approx(real.memory, rel=0.05)
    assert predicted.memory < autopeft.predict(SMOLLM2, method, **{**asked, "dtype": "bfloat16"}).memory


@pytest.mark.parametrize("method", ["full", "top_layers", "fishmask", "far", "said", "ladder", "glora"])
def test_what_changes_packed_matrices_is_refused(method: str) -> None:
    with pytest.raises(CannotAttach, match=f"'{method}' cannot stand on a backbone in nf4: "):
        autopeft.predict(tiny("llama").config, autopeft.method(method), dtype="nf4", length=16)


def test_a_model_of_one_s_own_is_measured_quantised_only_where_bitsandbytes_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopeft.errors.find_spec", lambda _: None)
    with pytest.raises(AutopeftError, match=r"this needs bitsandbytes: pip install bitsandbytes\."):
        autopeft.measure(headless("llama"), "lora", dtype="nf4", **ASKED)


def test_bytes_of_a_skeleton_are_those_of_the_real_model() -> None:
    pytest.importorskip("bitsandbytes")
    for name in FORMATS:
        model = headless("llama").to(torch.bfloat16)
        quantised.pack(model, name)
        skeleton = load_skeleton(CONFIGS["llama"](), torch.bfloat16, quantised=name).model
        of_both = [
            [(each, tuple(b.shape), b.dtype) for each, b in one.named_buffers() if "_proj." in each]
            for one in (model, skeleton)
        ]
        assert of_both[0] == of_both[1] != []
