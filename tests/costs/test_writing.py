"""What it takes to write texts: prediction against the meter, the cache in memory, and seconds that follow."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import load_skeleton, without_head
from autopeft.backbone.output import output_of
from autopeft.costs.load import Load
from autopeft.costs.measure import measure_writing
from autopeft.costs.predict import Predictor
from autopeft.costs.rates import USUAL
from autopeft.costs.seconds import Seconds
from autopeft.costs.work import WRITING, Work
from autopeft.costs.writing import Writing
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards
from autopeft.tasks.base import Task
from autopeft.tasks.text2text_generation import Text2TextGeneration
from autopeft.tasks.text_generation import TextGeneration
from autopeft.training.model import TaskModel
from tests import crossed
from tests.costs.test_language_models import CONFIGS
from tests.sampled import sampled

CPU = torch.device("cpu")
CARDS = load_cards()
TRAINING = Training(batch_size=4)
LENGTH = 16
LONG = Writing(24, 72)


def models() -> Mapping[str, tuple[Any, Task]]:
    plain = TextGeneration.sized(2)
    decoders: dict[str, tuple[Any, Task]] = {
        name: (t.AutoModelForCausalLM.from_config(of()), plain) for name, of in CONFIGS.items()
    }
    return {**decoders, **{name: (crossed.whole(name), Text2TextGeneration.sized(2)) for name in ("t5", "bart")}}


MODELS = models()


def predicted(config: Any, task: Task, name: str, writing: Writing | None) -> Any:
    skeleton = load_skeleton(config, causal=True)
    predictor = Predictor(skeleton, CARDS, task.on(skeleton), LENGTH, CPU, writing=writing)
    return predictor.predict(Candidate(name, (Part(name),), TRAINING))


@pytest.mark.parametrize(
    ("name", "method_"),
    sampled(MODELS, ("lora", "prefix_tuning", "prompt_tuning", "adapter"), every=8),
)
def test_memory_of_long_texts_is_predicted_within_three_percent(name: str, method_: str) -> None:
    model, task = MODELS[name]
    if method_ == "prompt_tuning" and name in crossed.CONFIGS:
        pytest.skip("refused")
    costs = predicted(model.config, task, method_, LONG)
    inner, output = without_head(model), output_of(name, model)
    with attach(inner, method(method_), find_sites(inner, states_only=True)) as attached:
        head = task.new_head(48, TRAINING)
        trained = TaskModel(inner, head, attached, task.inputs, output)
        tokens = TRAINING.at_once * LENGTH
        spent = measure_writing(trained, replace(LONG), tokens, CPU)
    step = predicted(model.config, task, method_, None)
    assert costs.memory == pytest.approx(max(spent.memory, step.memory), rel=0.03)
    told = Work.of(WRITING, costs.work)
    assert told.flops == pytest.approx(spent.work.flops, rel=0.03)


def test_the_cache_counts_in_peak_memory_where_texts_are_long() -> None:
    model, task = MODELS["llama"]
    skeleton = load_skeleton(model.config, causal=True)
    long = Writing(2_000, 2_000)
    alone = predicted(model.config, task, "norm_tuning", None).memory
    rows = long.rows(TRAINING.at_once * LENGTH)
    config = model.config
    cache = 2 * rows * 4_000 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    skeleton.model.config.max_position_embeddings = 8_000
    predictor = Predictor(skeleton, CARDS, task, LENGTH, CPU, writing=long)
    found = predictor.predict(Candidate("norm_tuning", (Part("norm_tuning"),), TRAINING)).memory
    assert found > alone + 0.9 * cache


def test_seconds_of_a_training_hold_those_of_what_is_written() -> None:
    model, task = MODELS["llama"]
    candidate = Candidate("lora", (Part("lora"),), TRAINING)
    costs = predicted(model.config, task, "lora", LONG)
    lengths = np.full(40, LENGTH)
    seconds = Seconds(Load(lengths, lengths), lambda: USUAL, LONG)
    none = seconds(candidate, costs)
    seconds.asks(16, 64)
    some = seconds(candidate, costs)
    seconds.asks(32, 128)
    more = seconds(candidate, costs)
    assert none < some < more
    assert more - none == pytest.approx(2 * (some - none), rel=0.1)
    first = seconds.to_first_rung(candidate, costs)
    assert first is not None
    assert first < more
