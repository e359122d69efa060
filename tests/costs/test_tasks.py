"""Costs of every task as predicted and as metered: a step, looks at data before it, and the evaluation after it.

`benchmarks/cost_accuracy.py --parts tasks` asks the same of more methods and of real models.
"""

from collections.abc import Mapping

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

import autopeft
from autopeft.backbone.load import load_backbone
from autopeft.tasks.named import tasks
from tests.sampled import sampled
from tests.tasks.examples import MODELS, kind_of_model

WITH_HEAD = {"causal": AutoModelForCausalLM, "crossed": AutoModelForSeq2SeqLM}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, PreTrainedModel]:
    """Tiny ones, by what they read."""
    made = {}
    for reads, make in MODELS.items():
        make(folder := tmp_path_factory.mktemp("model"), layers=2)
        kind = WITH_HEAD.get(reads)
        made[reads] = kind.from_pretrained(folder) if kind else load_backbone(str(folder)).model
    return made


@pytest.mark.parametrize(
    ("task", "method", "checkpointing"),
    sampled(tasks(), [("lora", True), ("fishmask", False), ("prefix_tuning", False)], every=4),
)
def test_memory_is_predicted_within_three_percent(
    models: Mapping[str, PreTrainedModel], task: str, method: str, checkpointing: bool
) -> None:
    """With checkpointing the evaluation may be the worst moment."""
    model = models[kind_of_model(tasks()[task])]
    how = {"task": task, "labels": 5, "batch_size": 6, "length": 24, "gradient_checkpointing": checkpointing}
    predicted, measured = autopeft.predict(model, method, **how), autopeft.measure(model, method, **how)
    assert predicted.memory == pytest.approx(measured.memory, rel=0.03)
    assert (predicted.trainable, predicted.stored) == (measured.trainable, measured.stored)
    assert predicted.flops == pytest.approx(measured.flops, rel=0.001)
