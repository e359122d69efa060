"""What must hold of costs whatever the settings are."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from transformers import BertConfig, GPT2Config, LlamaConfig, PreTrainedConfig, T5Config

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import load_skeleton
from autopeft.costs.predict import Predictor
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Part, Training
from autopeft.space.cards import load_cards
from autopeft.tasks.text_classification import TextClassification
from autopeft.trial import Costs
from tests.tiny import CONFIGS, batch, tiny

CARDS = load_cards()
SIZES: Mapping[str, str] = {
    "lora": "rank",
    "vera": "rank",
    "adapter": "bottleneck",
    "adamix": "bottleneck",
    "prompt_tuning": "length",
    "prefix_tuning": "length",
}


NARROWEST = 24
"""Features that the tiny Llama's v has; LoRA's rank is no larger."""


WIDE: Mapping[str, Callable[[], PreTrainedConfig]] = {
    "bert": lambda: BertConfig(num_hidden_layers=3),
    "llama": lambda: LlamaConfig(hidden_size=768, intermediate_size=2048, num_hidden_layers=3, num_attention_heads=12),
    "gpt2": lambda: GPT2Config(n_layer=3),
    "t5": lambda: T5Config(num_layers=3),
}
"""Three layers of an ordinary width."""


@cache
def wide_predictor(architecture: str) -> Predictor:
    return Predictor(load_skeleton(WIDE[architecture]()), CARDS, TextClassification.sized(2), 64, torch.device("cpu"))


@cache
def predictor(architecture: str, length: int = 16) -> Predictor:
    return Predictor(
        load_skeleton(CONFIGS[architecture]()), CARDS, TextClassification.sized(2), length, torch.device("cpu")
    )


def costs(architecture: str, part: Part, length: int = 16, **training: object) -> Costs:
    asked = Training(**{"batch_size": 2, **training})  # type: ignore[arg-type]
    return predictor(architecture, length).predict_parts(configured_parts((part,), CARDS), asked)


def require_no_less(larger: Costs, smaller: Costs) -> None:
    for name in ("trainable", "stored", "memory", "flops", "inference_flops", "overhead"):
        assert getattr(larger, name) >= getattr(smaller, name), name


few = settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])


@few
@given(st.sampled_from(sorted(CONFIGS)), st.sampled_from(sorted(SIZES)), st.integers(1, 30), st.integers(0, 16))
def test_costs_do_not_fall_when_a_size_grows(architecture: str, name: str, size: int, more: int) -> None:
    assume((architecture, name) != ("llama", "lora") or size + more <= NARROWEST)
    smaller, larger = (costs(architecture, Part(name, {SIZES[name]: each})) for each in (size, size + more))
    require_no_less(larger, smaller)


@few
@given(st.sampled_from(sorted(CONFIGS)), st.sampled_from(sorted(SIZES)), st.integers(1, 6), st.integers(0, 6))
def test_costs_do_not_fall_when_batches_grow(architecture: str, name: str, rows: int, more: int) -> None:
    smaller, larger = (costs(architecture, Part(name), batch_size=each) for each in (rows, rows + more))
    require_no_less(larger, smaller)


def with_and_without_checkpointing(on: Predictor, name: str, rows: int) -> tuple[Costs, Costs]:
    parts = configured_parts((Part(name),), CARDS)
    spared, plain = (
        on.predict_parts(parts, Training(batch_size=rows, gradient_checkpointing=wanted)) for wanted in (True, False)
    )
    return spared, plain


@few
@given(st.sampled_from(sorted(WIDE)), st.sampled_from(["full", *sorted(SIZES)]), st.integers(1, 8))
@example("gpt2", "full", 1)
def test_gradient_checkpointing_never_raises_the_peak(architecture: str, name: str, rows: int) -> None:
    spared, plain = with_and_without_checkpointing(wide_predictor(architecture), name, rows)
    assert spared.memory <= plain.memory
    assert spared.flops >= plain.flops


@pytest.mark.long
@few
@given(st.sampled_from(sorted(CONFIGS)), st.sampled_from(["full", *sorted(SIZES)]), st.integers(1, 8))
@example("gpt2", "full", 1)
@example("gpt2", "adapter", 1)
@example("gpt2", "adapter", 8)
@example("llama", "full", 1)
@example("t5", "adapter", 1)
def test_in_a_tiny_model_it_raises_it_by_what_is_kept_to_call_a_layer_again_at_most(
    architecture: str, name: str, rows: int
) -> None:
    """Masks and positions are as large as a tiny model's hidden states; without checkpointing the forward pass drops
    them. A peak in the backward pass holds what a layer that is called again computes on the way, too.
    """
    spared, plain = with_and_without_checkpointing(predictor(architecture), name, rows)
    again = bytes_beside_hidden_states(architecture, rows, length=16) + spared.memory_by_part["temporary"]
    assert spared.memory <= plain.memory + again
    assert spared.flops >= plain.flops


def bytes_beside_hidden_states(architecture: str, rows: int, length: int) -> int:
    """Of the tensors that a layer is called with, at most: a row more, so that some are padded and there is a mask."""
    called: list[tuple[object, ...]] = []
    model = tiny(architecture)
    layer = model.get_submodule(find_sites(model).layers[-1])
    layer.register_forward_pre_hook(lambda _, args, kwargs: called.append((*args, *kwargs.values())), with_kwargs=True)
    model(**batch(rows + 1, length))
    _, *beside = called[0]
    given = [each for value in beside for each in (value if isinstance(value, tuple) else (value,))]
    return sum(each.nbytes for each in given if isinstance(each, torch.Tensor))


def test_a_longer_text_costs_no_less() -> None:
    for name in SIZES:
        longer, shorter = (costs("bert", Part(name), length=length) for length in (24, 16))
        require_no_less(replace(longer, overhead=0), replace(shorter, overhead=0))


@pytest.mark.parametrize("rows", [4, 32])
def test_the_top_layer_costs_less_memory_than_all_biases(rows: int) -> None:
    on = Predictor(load_skeleton(BertConfig()), CARDS, TextClassification.sized(2), 128, torch.device("cpu"))
    top, biases = (
        on.predict_parts(configured_parts((Part(name),), CARDS), Training(batch_size=rows))
        for name in ("top_layers", "bitfit")
    )
    assert top.memory < biases.memory


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_what_merges_costs_nothing_at_inference_and_what_does_not_costs_something(architecture: str) -> None:
    assert costs(architecture, Part("lora")).overhead == 0
    assert costs(architecture, Part("ia3")).overhead == 0
    adapter, longer = costs(architecture, Part("adapter")), costs(architecture, Part("prompt_tuning"))
    assert adapter.overhead is not None
    assert adapter.overhead > 0
    assert longer.overhead is not None
    assert longer.overhead > 10 / 16


@pytest.mark.parametrize(("made", "free"), [(("prefix_tuning", 32), ("prefix_tuning", 0)), (("p_tuning", 64), None)])
def test_what_only_training_needs_is_not_counted_at_inference(
    made: tuple[str, int], free: tuple[str, int] | None
) -> None:
    """An MLP or an encoder makes prefixes and prompts; what they made is what is shipped."""
    encoded = costs("bert", Part(made[0], {"hidden": made[1], "length": 10}))
    plain = costs("bert", Part(free[0], {"hidden": free[1], "length": 10}) if free else Part("prompt_tuning"))
    assert encoded.trainable > plain.trainable
    assert encoded.inference_flops == plain.inference_flops


def test_a_hybrid_costs_at_inference_what_is_left_of_it_once_the_rest_was_merged() -> None:
    both = predictor("gpt2").predict_parts(configured_parts((Part("lora"), Part("adapter")), CARDS), Training())
    assert both.inference_flops == costs("gpt2", Part("adapter")).inference_flops


def test_accumulation_costs_the_computation_of_the_whole_batch() -> None:
    whole, pieces = (costs("bert", Part("lora"), batch_size=8, micro_batch_size=size) for size in (None, 2))
    assert pieces.flops == pytest.approx(whole.flops, rel=0.01)
    assert pieces.memory < whole.memory
