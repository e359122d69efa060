"""Predictions against the meter on real steps, counts from the literature, and what must always hold."""

from collections.abc import Mapping
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, BertConfig, DistilBertConfig, ElectraConfig, PreTrainedModel, RobertaConfig

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import Skeleton, load_skeleton
from autopeft.costs.api import predict
from autopeft.costs.calibration import costs_of_training
from autopeft.costs.measure import measure_batch, measure_calibrations, measure_evaluation
from autopeft.costs.predict import Predictor
from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Candidate, Part, Training, Value
from autopeft.space.cards import load_cards
from autopeft.tasks.text_classification import TextClassification
from autopeft.training import precision
from autopeft.training.model import TaskModel
from autopeft.trial import Costs
from tests.sampled import sampled
from tests.tiny import CONFIGS, batch, tiny

CARDS = load_cards()
ROWS, LENGTH = 4, 16
MODES = ("plain", "checkpointing", "bf16")
METHODS: Mapping[str, tuple[Part, ...]] = {
    "lora": (Part("lora"),),
    "lora everywhere": (
        Part("lora", {"sites": ("q", "k", "v", "o", "ffn.up", "ffn.down"), "rank": 16, "dropout": 0.1}),
    ),
    "lora in the last layer": (Part("lora", {"layers": "last 50%"}),),
    "dora": (Part("lora", {"dora": True}),),
    "adalora": (Part("adalora"),),
    "vera": (Part("vera"),),
    "krona": (Part("krona"),),
    "ia3": (Part("ia3"),),
    "compacter": (Part("compacter"),),
    "krona_b": (Part("krona_b", {"residual": True}),),
    "said": (Part("said"),),
    "prompt_tuning": (Part("prompt_tuning"),),
    "p_tuning": (Part("p_tuning"),),
    "adamix": (Part("adamix"),),
    "ladder": (Part("ladder", {"reduction": 2}),),
    "unipelt": (Part("unipelt", {"hidden": 16}),),
    "prefix_tuning": (Part("prefix_tuning"),),
    "prefix_tuning through an MLP": (Part("adapter"), Part("prefix_tuning", {"hidden": 16})),
    "houlsby": (Part("adapter", {"placement": "houlsby"}),),
    "pfeiffer": (Part("adapter", {"placement": "pfeiffer"}),),
    "parallel": (Part("adapter", {"placement": "scaled_parallel"}),),
    "bitfit": (Part("bitfit"),),
    "norm_tuning": (Part("norm_tuning"),),
    "top_layers": (Part("top_layers"),),
    "full": (Part("full"),),
    "fishmask": (Part("fishmask"),),
    "far": (Part("far"),),
    "sparse_adapter": (Part("sparse_adapter"),),
    "fishmask beside lora": (Part("fishmask"), Part("lora")),
    "lora_parallel": (Part("lora"), Part("adapter", {"placement": "parallel"})),
}


def candidate(*parts: Part, **training: object) -> Candidate:
    values = {"batch_size": ROWS, **training}
    return Candidate("+".join(part.method for part in parts), parts, Training(**values))  # type: ignore[arg-type]


def one(method: str, **given: Value) -> Candidate:
    return candidate(Part(method, given))


def steps() -> list[Any]:
    """Every method on every model, in a mode that changes with both; half of them on one of the models each
    without `make grids`.
    """
    return [
        pytest.param(of, method, mode, marks=() if number % (2 * len(CONFIGS)) == at else pytest.mark.grid)
        for (at, of), (number, method) in product(enumerate(CONFIGS), enumerate(METHODS))
        for mode in [MODES[(at + number) % len(MODES)]]
    ]


def headless(architecture: str) -> PreTrainedModel:
    model = tiny(architecture)
    if hasattr(model, "pooler"):
        model.pooler = None
    return model


def measured(model: PreTrainedModel, wanted: Candidate) -> Costs:
    task, sites = TextClassification(("text",), ("no", "yes")), find_sites(model)
    with attach(model, configured_parts(wanted.parts, CARDS), sites) as attached:
        classifier = TaskModel(attached.model, task.new_head(sites.width, wanted.training), attached)
        rows = wanted.training.micro_batch_size or wanted.training.batch_size
        step = measure_batch(classifier, texts(rows), wanted.training, torch.device("cpu"))
        calibrations = measure_calibrations(classifier, texts, torch.device("cpu"))
        return costs_of_training(step, calibrations, measure_evaluation(classifier, texts(rows), torch.device("cpu")))


def texts(rows: int) -> dict[str, torch.Tensor]:
    """Some of them are padded, also one alone: what real attention leaves out without padding is predicted."""
    inputs = batch(rows, LENGTH)
    inputs["attention_mask"][-1, -1] = 0
    return {**inputs, "labels": torch.arange(rows) % 2}


@pytest.fixture(scope="module")
def skeletons() -> Mapping[str, Skeleton]:
    return {name: load_skeleton(config()) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def predictors(skeletons: Mapping[str, Skeleton]) -> Mapping[str, Predictor]:
    return {
        name: Predictor(skeleton, CARDS, TextClassification.sized(2), LENGTH) for name, skeleton in skeletons.items()
    }


@pytest.fixture(scope="module")
def bert_base() -> Skeleton:
    with torch.device("meta"):
        model = AutoModel.from_config(BertConfig())
    return Skeleton("bert-base", model, find_sites(model))


@pytest.fixture(scope="module")
def on_bert_base(bert_base: Skeleton) -> Predictor:
    return Predictor(bert_base, CARDS, TextClassification.sized(2), 32)


@pytest.mark.parametrize(("architecture", "method", "mode"), steps())
def test_a_prediction_equals_the_meter_on_a_real_step(
    skeletons: Mapping[str, Skeleton], architecture: str, method: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (architecture, method) in (("llama", "bitfit"), ("t5", "bitfit"), ("gpt2", "krona")):
        pytest.skip("Llama and T5 have no biases, and GPT-2 no Linear layers")
    monkeypatch.setattr(precision, "has_bf16", lambda _: mode == "bf16")
    wanted = candidate(*METHODS[method], gradient_checkpointing=mode == "checkpointing")
    predictor = Predictor(skeletons[architecture], CARDS, TextClassification.sized(2), LENGTH)
    predicted, real = predictor.predict(wanted), measured(headless(architecture), wanted)
    assert predicted.memory == pytest.approx(real.memory, rel=0.002)
    assert predicted.memory == sum(predicted.memory_by_part.values())
    for part, size in real.memory_by_part.items():
        assert predicted.memory_by_part[part] == pytest.approx(size, rel=0.005, abs=0.005 * real.memory)
    for name in ("trainable", "stored", "flops", "set_up_flops"):
        assert getattr(predicted, name) == getattr(real, name), name


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((Part("lora", {"rank": 8, "sites": ("q", "v")}),), 294_912),
        ((Part("lora", {"rank": 8, "sites": ("q", "k", "v", "o", "ffn.up", "ffn.down")}),), 1_327_104),
        ((Part("ia3"),), 55_296),
        ((Part("bitfit"),), 102_912),
        ((Part("adapter", {"placement": "houlsby", "bottleneck": 64}),), 2_379_264),
        ((Part("adapter", {"placement": "pfeiffer", "bottleneck": 48}),), 894_528),
        ((Part("adapter", {"placement": "parallel", "bottleneck": 384}),), 7_091_712),
        ((Part("adapter", {"placement": "scaled_parallel", "bottleneck": 384}),), 7_091_724),
        ((Part("prompt_tuning", {"length": 20}),), 15_360),
        ((Part("lora", {"rank": 8}), Part("adapter", {"placement": "parallel", "bottleneck": 384})), 7_386_624),
    ],
)
def test_trainable_parameters_of_bert_base_are_those_of_the_papers(
    on_bert_base: Predictor, parts: tuple[Part, ...], expected: int
) -> None:
    costs = on_bert_base.predict(candidate(*parts))
    assert costs.trainable == expected
    assert costs.stored == 4 * expected


GROWING = {
    "rank": [one("lora", rank=rank) for rank in (1, 2, 8, 16)],
    "sites": [one("lora", sites=sites) for sites in (("q", "v"), ("q", "k", "v", "o"))],
    "layers": [one("lora", layers=layers) for layers in ("last 50%", "all")],
    "bottleneck": [one("adapter", bottleneck=bottleneck) for bottleneck in (4, 16, 64)],
    "prompt length": [one("prompt_tuning", length=length) for length in (5, 20, 40)],
    "batch size": [candidate(Part("lora"), batch_size=size) for size in (1, 2, 5, 8)],
}


@pytest.mark.parametrize(("architecture", "what"), sampled(CONFIGS, GROWING, every=2 * len(CONFIGS)))
def test_costs_do_not_fall_when_settings_grow(
    predictors: Mapping[str, Predictor], architecture: str, what: str
) -> None:
    costs = [predictors[architecture].predict(each) for each in GROWING[what]]
    for smaller, larger in pairwise(costs):
        for name in ("trainable", "memory", "stored", "flops"):
            assert getattr(smaller, name) <= getattr(larger, name)
        assert smaller != larger


@settings(max_examples=3)
@given(rank=st.integers(1, 16), rows=st.integers(1, 6), length=st.integers(8, 40), more=st.integers(1, 8))
def test_memory_and_flops_grow_with_length_and_checkpointing_saves_memory(
    rank: int, rows: int, length: int, more: int
) -> None:
    skeleton = load_skeleton(CONFIGS["bert"]())
    wanted = candidate(Part("lora", {"rank": rank}), batch_size=rows)
    shorter, longer = (
        Predictor(skeleton, CARDS, TextClassification.sized(3), each).predict(wanted)
        for each in (length, length + more)
    )
    assert shorter.memory < longer.memory
    assert shorter.flops < longer.flops
    checkpointed = candidate(*wanted.parts, batch_size=rows, gradient_checkpointing=True)
    spared = Predictor(skeleton, CARDS, TextClassification.sized(3), length).predict(checkpointed)
    assert spared.memory <= shorter.memory
    assert spared.flops > shorter.flops
    assert (spared.trainable, spared.stored) == (shorter.trainable, shorter.stored)


def test_accumulation_costs_the_memory_of_its_micro_batch_and_of_the_gradients(
    predictors: Mapping[str, Predictor],
) -> None:
    parts = METHODS["houlsby"]
    small = predictors["bert"].predict(candidate(*parts, batch_size=2))
    accumulated = predictors["bert"].predict(candidate(*parts, batch_size=8, micro_batch_size=2))
    whole = predictors["bert"].predict(candidate(*parts, batch_size=8))
    assert small.memory < accumulated.memory <= small.memory + small.stored + 1024
    assert accumulated.memory < whole.memory
    assert accumulated.flops == 4 * small.flops
    real = measured(headless("bert"), candidate(*parts, batch_size=8, micro_batch_size=2))
    assert accumulated.memory == pytest.approx(real.memory, rel=0.002)


def test_learning_rates_are_not_simulated_again(predictors: Mapping[str, Predictor]) -> None:
    slow, fast = (candidate(Part("lora", learning_rate=rate, weight_decay=rate)) for rate in (1e-4, 1e-2))
    assert predictors["gpt2"].predict(slow) is predictors["gpt2"].predict(fast)
    assert predictors["gpt2"].predict(candidate(Part("lora"), batch_size=3)) is not predictors["gpt2"].predict(slow)


def test_the_skeleton_is_as_before_after_predictions_and_refusals() -> None:
    skeleton = load_skeleton(CONFIGS["bert"]())
    model = skeleton.model
    before = {name: id(tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    predictor = Predictor(skeleton, CARDS, TextClassification.sized(2), 8)
    for parts in METHODS.values():
        assert predictor.refusal(candidate(*parts)) is None
    for name in ("lora", "adalora", "prefix_tuning", "ladder", "fishmask", "full"):
        predictor.predict(candidate(*METHODS[name], gradient_checkpointing=True))
    assert {name: id(tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())} == before
    assert [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()] == hooks
    assert all(tensor.is_meta for tensor in model.parameters())


def test_what_cannot_attach_is_refused_with_the_reason(predictors: Mapping[str, Predictor]) -> None:
    wanted = candidate(*METHODS["bitfit"])
    for architecture in ("llama", "t5"):
        with pytest.raises(CannotAttach, match="no biases"):
            predictors[architecture].predict(wanted)
        reason = predictors[architecture].refusal(wanted)
        assert reason is not None
        assert "no biases" in reason
        assert predictors[architecture].refusal(candidate(*METHODS["lora"])) is None


def test_a_prompt_that_leaves_too_few_positions_is_refused() -> None:
    shape = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = RobertaConfig(**shape, intermediate_size=96, max_position_embeddings=64 + 2, pad_token_id=1)
    predictor = Predictor(load_skeleton(config), CARDS, TextClassification.sized(2), 54)
    assert predictor.refusal(one("prompt_tuning", length=10)) is None
    assert predictor.refusal(one("prompt_tuning", length=11)) == (
        "65 tokens (11 of them prepended by the method) are more than the 64 positions of RobertaModel."
    )


@pytest.mark.parametrize(
    "config",
    [
        ElectraConfig(vocab_size=96, embedding_size=24, hidden_size=48, num_hidden_layers=2, num_attention_heads=4),
        DistilBertConfig(vocab_size=96, dim=48, n_layers=2, n_heads=4, hidden_dim=96),
    ],
    ids=["embeddings narrower than layers", "other names in the configuration"],
)
def test_prompts_are_as_wide_as_the_embeddings(config: ElectraConfig | DistilBertConfig) -> None:
    width = config.embedding_size if isinstance(config, ElectraConfig) else config.dim
    assert predict(config, "prompt_tuning", batch_size=2, length=8).trainable == 10 * width
