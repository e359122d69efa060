"""Costs of language models as predicted and as metered: through the head that training uses, a few tokens at a time.

Four decoders that differ where it matters here: an output embedding of its own (Llama), tied ones (GPT-2, Qwen 3),
norms of queries and keys (Qwen 3), layers of two kinds and a soft cap (Gemma 3).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import transformers as t
from torch import Tensor

import autopeft
from autopeft.backbone.load import load_skeleton
from autopeft.costs import api
from autopeft.costs.predict import Predictor
from autopeft.data.store import LABELS
from autopeft.methods.attached import parts_of
from autopeft.space.candidate import Training
from autopeft.tasks import language_head
from autopeft.tasks.heads import NO_LABEL
from autopeft.tasks.text_generation import TextGeneration
from tests.sampled import sampled

_SHAPE = {"vocab_size": 400, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_MORE = {**_SHAPE, "intermediate_size": 96, "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 128}
CONFIGS: Mapping[str, Callable[[], t.PretrainedConfig]] = {
    "llama": lambda: t.LlamaConfig(**_MORE, tie_word_embeddings=False),
    "gpt2": lambda: t.GPT2Config(vocab_size=400, n_embd=48, n_layer=2, n_head=4, n_positions=128),
    "qwen3": lambda: t.Qwen3Config(**_MORE, tie_word_embeddings=True),
    "gemma3": lambda: t.Gemma3TextConfig(**_MORE, sliding_window=16, final_logit_softcapping=5.0),
}
HOW: Mapping[str, Any] = {"task": "text-generation", "batch_size": 4, "length": 40}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there are several, as of a real batch."""
    monkeypatch.setattr(language_head, "CHUNK", 32)


@pytest.mark.parametrize(
    ("name", "method", "checkpointing"),
    sampled(
        CONFIGS,
        [("lora", False), ("lora", True), ("full", False), ("ia3", False), ("prompt_tuning", False)],
        every=4,
    ),
)
def test_a_step_of_a_decoder_is_predicted_within_three_percent(name: str, method: str, checkpointing: bool) -> None:
    model = t.AutoModelForCausalLM.from_config(CONFIGS[name]())
    how = {**HOW, "gradient_checkpointing": checkpointing}
    predicted, measured = autopeft.predict(model, method, **how), autopeft.measure(model, method, **how)
    assert predicted.memory == pytest.approx(measured.memory, rel=0.03)
    assert (predicted.trainable, predicted.stored) == (measured.trainable, measured.stored)
    assert predicted.flops == pytest.approx(measured.flops, rel=0.001)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_where_few_tokens_are_learned_the_logits_of_few_are_predicted(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks have no values in a prediction; how many positions of each row are learned is known from the data."""
    counts, of_all = np.array([3, 9, 4, 5, 1, 2]), api._examples

    def of_few(*asked: Any) -> Mapping[str, Tensor]:
        batch = of_all(*asked)
        for labels, count in zip(batch[LABELS], sorted(counts, reverse=True), strict=False):
            labels[:-count] = NO_LABEL
        return batch

    monkeypatch.setattr(api, "_examples", of_few)
    config = CONFIGS["llama"]()
    config.vocab_size = 4000
    model = t.AutoModelForCausalLM.from_config(config)
    measured = autopeft.measure(model, method, **HOW)
    training, parts = Training(batch_size=HOW["batch_size"]), tuple(parts_of(method))
    predictors = [
        Predictor(load_skeleton(config, causal=True), {}, TextGeneration.sized(2), HOW["length"], learned=learned)
        for learned in ((counts, counts), None)
    ]
    few, everything = (each.predict_parts(parts, training) for each in predictors)
    assert few.memory == pytest.approx(measured.memory, rel=0.03)
    assert few.flops == pytest.approx(measured.flops, rel=0.001)
    assert everything.memory > 1.03 * measured.memory


def test_of_a_deep_decoder_shallow_ones_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedding that is tied stays so in them."""
    config = t.Qwen3Config(**{**_MORE, "num_hidden_layers": 12})
    predicted = autopeft.predict(config, "lora", **HOW)
    monkeypatch.setattr("autopeft.costs.predict.shallow_models", lambda _: None)
    whole = autopeft.predict(config, "lora", **HOW)
    assert predicted.memory == pytest.approx(whole.memory, rel=0.001)
    assert predicted.flops == whole.flops


def test_a_large_vocabulary_costs_a_few_tokens_logits_and_not_those_of_all() -> None:
    large = CONFIGS["llama"]()
    large.vocab_size = 40_000
    memory = autopeft.predict(large, "lora", **HOW).memory
    output = load_skeleton(large, causal=True).output
    assert output is not None
    weights = 2 * output.weight.numel() * 4
    logits_of_all = HOW["batch_size"] * HOW["length"] * large.vocab_size * 4
    assert memory - weights < logits_of_all / 2
