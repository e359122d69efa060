"""Deep models as shallow ones tell of them: the same numbers as the whole, and the whole wherever layers differ."""

from collections.abc import Mapping
from itertools import groupby, product

import pytest
import torch
from transformers import (
    BertConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    T5Config,
)

from autopeft.backbone.load import load_skeleton
from autopeft.costs.depth import Profile, Run, extended, kinds_of_layers, runs_of, shallow_models
from autopeft.costs.predict import Predictor
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Part, Training
from autopeft.space.cards import load_cards
from autopeft.tasks.text_classification import TextClassification

CARDS = load_cards()
DEPTH = 10
_SHAPE = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": DEPTH, "num_attention_heads": 4}
DEEP: Mapping[str, PretrainedConfig] = {
    "bert": BertConfig(**_SHAPE, intermediate_size=96, max_position_embeddings=64),
    "llama": LlamaConfig(**_SHAPE, intermediate_size=96, max_position_embeddings=64, num_key_value_heads=2),
    "gpt2": GPT2Config(
        vocab_size=96, n_embd=48, n_layer=DEPTH, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
    ),
    "t5": T5Config(vocab_size=96, d_model=48, d_kv=12, num_heads=4, num_layers=DEPTH + 2, d_ff=96),
}
METHODS: Mapping[str, tuple[tuple[Part, ...], Training]] = {
    "lora": ((Part("lora", {"dropout": 0.1}),), Training(batch_size=4)),
    "lora accumulated": ((Part("lora"),), Training(batch_size=4, micro_batch_size=1, gradient_checkpointing=True)),
    "adapter": ((Part("adapter", {"placement": "houlsby"}),), Training(batch_size=4, gradient_checkpointing=True)),
    "full": ((Part("full"),), Training(batch_size=1)),
    "two passes": ((Part("adamix"),), Training(batch_size=2)),
    "prompts": ((Part("prompt_tuning"),), Training(batch_size=2)),
    "calibration": ((Part("far", {"keep": 0.125}),), Training(batch_size=1)),
    "hybrid": ((Part("lora"), Part("prefix_tuning", {"hidden": 16})), Training(batch_size=2)),
}
OFTEN = {
    "bert": ("hybrid",),
    "llama": ("lora accumulated",),
    "gpt2": (),
    "t5": ("full",),
}
"""What is tried of each architecture every time; `make grids` tries all."""


def both(config: PretrainedConfig, parts: tuple[Part, ...], training: Training) -> tuple[Profile | None, Profile]:
    """As shallow models tell of it, and as the whole model does."""
    skeleton = load_skeleton(config)
    predictor, chosen = (
        Predictor(skeleton, CARDS, TextClassification.sized(2), 16, torch.device("cpu")),
        configured_parts(parts, CARDS),
    )
    return predictor._from_shallow(chosen, training), predictor._whole(chosen, training)


@pytest.mark.parametrize(
    ("architecture", "method"),
    [
        pytest.param(of, method, marks=() if method in OFTEN[of] else pytest.mark.grid)
        for of, method in product(DEEP, METHODS)
    ],
)
def test_shallow_models_tell_exactly_what_the_whole_one_does(architecture: str, method: str) -> None:
    shallow, whole = both(DEEP[architecture], *METHODS[method])
    assert shallow is not None
    assert shallow.costs == whole.costs
    assert shallow.totals == whole.totals


@pytest.mark.long
def test_blocks_that_come_again_tell_exactly_what_the_whole_model_does() -> None:
    """Every sixth layer of Gemma 3 attends to all tokens, the others to near ones."""
    shallow, whole = both(gemma(36), (Part("lora"),), Training(batch_size=2, gradient_checkpointing=True))
    assert shallow is not None
    assert shallow.costs == whole.costs
    assert shallow.totals == whole.totals


def gemma(layers: int) -> Gemma3TextConfig:
    return Gemma3TextConfig(
        **{**_SHAPE, "num_hidden_layers": layers},
        intermediate_size=96,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=64,
        sliding_window=8,
    )


def test_layers_that_a_method_leaves_alone_are_a_run_of_their_own() -> None:
    config = BertConfig(**{**_SHAPE, "num_hidden_layers": 24}, intermediate_size=96, max_position_embeddings=64)
    shallow, whole = both(config, (Part("lora", {"layers": "last 25%"}),), Training(batch_size=2))
    assert shallow is not None
    assert shallow.costs == whole.costs


def test_the_worst_moment_may_lie_elsewhere_in_a_deep_model() -> None:
    """Fully fine-tuned on few tokens, a shallow model peaks over its embeddings and a deep one over its activations."""
    config = BertConfig(**{**_SHAPE, "vocab_size": 3000}, intermediate_size=96, max_position_embeddings=64)
    for rows in (1, 16):
        shallow, whole = both(config, (Part("full"),), Training(batch_size=rows))
        assert shallow is not None
        assert shallow.costs == whole.costs


def test_layers_of_several_kinds_are_simulated_whole_where_no_run_is_long() -> None:
    shallow, _ = both(gemma(12), (Part("lora"),), Training(batch_size=1))
    skeleton = load_skeleton(gemma(12))
    kinds = kinds_of_layers(skeleton.model, skeleton.sites)
    longest = max(len(list(equal)) for _, equal in groupby(kinds))
    assert (shallow is None) == (shallow_models(kinds) is None)
    assert longest < len(kinds)


def test_a_method_that_makes_something_else_of_a_shallow_model_is_simulated_whole() -> None:
    shallow, whole = both(DEEP["bert"], (Part("top_layers", {"count": 4}),), Training(batch_size=1))
    assert shallow is None
    assert whole.costs.trainable == 4 * both(DEEP["bert"], (Part("top_layers"),), Training())[1].costs.trainable


@pytest.mark.parametrize(
    ("kinds", "runs", "shallow"),
    [
        ("aaaaaaaaaaaa", ((0, 1, 12),), ((0, 1), (0, 1, 2))),
        ("a" + "b" * 23, ((0, 1, 1), (1, 1, 23)), ((0, 1, 2), (0, 1, 2, 3))),
        ("a" * 18 + "b" * 6, ((0, 1, 18), (18, 1, 6)), ((0, 1, 18, 19), (0, 1, 2, 18, 19), (0, 1, 18, 19, 20))),
        ("ab" * 9, ((0, 2, 9),), ((0, 1, 2, 3), (0, 1, 2, 3, 4, 5))),
        ("c" + "abb" * 9, ((0, 1, 1), (1, 3, 9)), (tuple(range(7)), tuple(range(10)))),
        ("aaaaaa", None, None),
        ("abababababab", None, None),
    ],
)
def test_long_runs_are_shortened_where_that_saves_work(
    kinds: str, runs: tuple[tuple[int, int, int], ...] | None, shallow: tuple[tuple[int, ...], ...] | None
) -> None:
    assert sum(run.period * run.count for run in runs_of(kinds)) == len(kinds)
    models = shallow_models(kinds)
    assert (models is None) == (runs is None)
    if models is not None:
        assert models[0] == tuple(Run(*run) for run in runs or ())
        assert tuple(models[1].values()) == shallow


def test_each_phase_grows_by_itself() -> None:
    """By hand: with two layers the step peaks in the end, with ten in its head."""

    def profile(head: int, end: int) -> Profile:
        totals = dict.fromkeys(
            (
                "trainable",
                "stored",
                "flops",
                "frozen_flops",
                "set_up_flops",
                "inference_flops",
                "bare_flops",
                "weights",
            ),
            1,
        )
        return Profile({("head", 1, -1): {"weights": head}, ("after", 0, -1): {"weights": end}}, totals)

    run = Run(0, 1, 10)
    whole = extended([run], profile(10, 15), {run: profile(13, 16)})
    assert whole is not None
    assert whole.costs.memory == 10 + 8 * 3
    assert profile(10, 15).costs.memory == 15
