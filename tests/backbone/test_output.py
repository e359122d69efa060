"""A language model comes with what makes its logits, or is refused."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t

from autopeft.backbone.load import load_backbone, load_skeleton, without_head
from autopeft.backbone.output import OutputEmbedding, output_of, require_causal
from autopeft.errors import AutopeftError
from tests.crossed import CONFIGS, config_of, folder_of, whole
from tests.saved import saved
from tests.tasks.examples import model_that_goes_on

_SHAPE = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_MORE = {**_SHAPE, "intermediate_size": 32, "num_key_value_heads": 2}
SCALED: Mapping[str, Callable[[], t.PretrainedConfig]] = {
    "soft cap": lambda: t.Gemma2Config(**_MORE, head_dim=8, final_logit_softcapping=2.0),
    "divided": lambda: t.GraniteConfig(**_MORE, logits_scaling=8.0),
    "multiplied": lambda: t.CohereConfig(**_MORE, logit_scale=0.0625),
    "bias": lambda: t.PhiConfig(**_MORE),
    "plain": lambda: t.LlamaConfig(**_MORE),
}


def model_of(config: t.PretrainedConfig) -> Any:
    torch.manual_seed(0)
    return t.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("name", SCALED)
def test_its_logits_are_the_models_own(name: str) -> None:
    model = model_of(SCALED[name]())
    output = output_of(name, model)
    require_causal(name, model, output, model.base_model)
    assert (output.bias is not None) == (name == "bias")
    assert (output.scale != 1.0) == (name in ("divided", "multiplied"))
    assert (output.cap is not None) == (name == "soft cap")


def test_of_a_model_that_reads_images_too_the_layers_are_those_that_read_texts() -> None:
    images = {**_SHAPE, "intermediate_size": 32, "num_hidden_layers": 3, "image_size": 28, "patch_size": 14}
    config = t.Gemma3Config(text_config={**_MORE, "head_dim": 8}, vision_config=images)
    skeleton = load_skeleton(config, causal=True)
    assert skeleton.sites.layers == ("language_model.layers.0", "language_model.layers.1")
    assert {place.path.split(".")[0] for place in skeleton.sites.places["q"]} == {"language_model"}


def test_a_model_that_makes_its_logits_otherwise_is_refused() -> None:
    model = model_of(SCALED["divided"]())
    with pytest.raises(
        AutopeftError, match="GraniteForCausalLM of 'other' makes its logits in another way than by its"
    ):
        require_causal("other", model, OutputEmbedding(model.lm_head), model.base_model)


def test_logits_that_are_rounded_before_they_are_scaled_are_the_models_own() -> None:
    model = model_of(t.GraniteConfig(**_MORE, logits_scaling=3.0)).to(torch.bfloat16)
    with torch.no_grad():
        model.lm_head.weight.mul_(100)
    output = output_of("halves", model)
    require_causal("halves", model, output, model.base_model)
    with pytest.raises(AutopeftError, match="makes its logits in another way"):
        require_causal("halves", model, OutputEmbedding(model.lm_head, scale=0.3), model.base_model)


def test_a_scale_that_is_no_number_is_none() -> None:
    model = model_of(t.MptConfig(vocab_size=50, d_model=16, n_layers=2, n_heads=2, logit_scale="inv_sqrt_d_model"))
    require_causal("words", model, output_of("words", model), model.base_model)


def test_a_model_that_looks_at_later_tokens_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "encoder")
    with pytest.raises(
        AutopeftError, match=r"is no causal model: what BertLMHeadModel gives for a token depends on later"
    ):
        load_backbone(str(folder), causal=True)


def test_an_encoder_is_refused_by_its_configuration_alone() -> None:
    with pytest.raises(AutopeftError, match="'BertConfig' is no causal model: BertLMHeadModel looks at later tokens"):
        load_skeleton(t.BertConfig(**_SHAPE), causal=True)
    assert load_skeleton(t.BertConfig(**_SHAPE, is_decoder=True), causal=True).output is not None


@pytest.mark.parametrize("name", CONFIGS)
def test_an_encoder_comes_with_its_decoder_and_with_what_that_makes_its_logits_with(name: str, tmp_path: Path) -> None:
    model = whole(name)
    require_causal(name, model, output_of(name, model), inner := without_head(model))
    skeleton = load_skeleton(config_of(name), causal=True)
    assert type(skeleton.model) is type(inner)
    backbone = load_backbone(str(folder_of(name, tmp_path / name)), causal=True)
    assert backbone.sites == skeleton.sites
    assert {*backbone.sites.places} > {"q", "cross.q", "cross.o", "ffn.down"}
    assert backbone.whole is not None
    assert backbone.model.encoder is backbone.whole.get_encoder()


def test_a_model_of_something_else_is_refused() -> None:
    with pytest.raises(AutopeftError, match=r"ViTConfig is of no language models: texts are written by a causal model"):
        load_skeleton(t.ViTConfig(), causal=True)


def test_a_model_without_its_head_is_told_to_be_incomplete(tmp_path: Path) -> None:
    model_that_goes_on(tmp_path / "model", layers=2)
    t.AutoModel.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "model")
    with pytest.raises(AutopeftError, match=r"incomplete: 1 tensors are missing, among them 'lm_head.weight'"):
        load_backbone(str(tmp_path / "model"), causal=True)


def test_weights_that_are_not_tied_count_and_are_told_apart(tmp_path: Path) -> None:
    model_that_goes_on(tmp_path / "model", layers=2)
    with_output, without = (load_backbone(str(tmp_path / "model"), causal=each) for each in (True, False))
    assert with_output.output is not None
    assert with_output.parameters == without.parameters + with_output.output.weight.numel()
    assert with_output.fingerprint != without.fingerprint
    assert with_output.sites == without.sites == load_skeleton(str(tmp_path / "model"), causal=True).sites


def test_tied_weights_count_once() -> None:
    skeleton = load_skeleton(t.GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=50), causal=True)
    assert skeleton.output is not None
    assert skeleton.output.weight is skeleton.model.get_input_embeddings().weight
