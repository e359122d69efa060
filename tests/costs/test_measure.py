"""A measured step: the same numbers each time, and nothing changed."""

import re

import numpy as np
import pytest
import torch
from transformers import LlamaForSequenceClassification, PreTrainedModel

from autopeft.backbone.find import find_sites
from autopeft.costs.api import measure as measure_method
from autopeft.costs.api import predict
from autopeft.costs.measure import measure, measure_batch
from autopeft.data.store import Column, Dataset
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.tasks.text_classification import TextClassification
from autopeft.training.model import TaskModel
from tests.tiny import CONFIGS, batch, tiny

CPU = torch.device("cpu")
TASK = TextClassification(("text",), ("a", "b", "c"))


def everything(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("name", ["lora", "prompt_tuning", "adapter", "ia3", "lora_parallel"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_measuring_changes_nothing(architecture: str, name: str, checkpointing: bool) -> None:
    model = tiny(architecture)
    with attach(model, method(name)) as attached:
        classifier = TaskModel(attached.model, TASK.new_head(48, Training()), attached)
        classifier.head.train()
        trained = [*attached.parameters(), *classifier.head.parameters()]
        trained[0].grad = gradient = torch.ones_like(trained[0])
        values = [tensor.detach().clone() for tensor in classifier.parameters()]
        modes = [module.training for module in classifier.modules()]
        required = [tensor.requires_grad for tensor in classifier.parameters()]
        random = torch.get_rng_state()
        training = Training(batch_size=4, gradient_checkpointing=checkpointing)
        costs = measure_batch(classifier, {**batch(4), "labels": torch.tensor([0, 1, 2, 0])}, training, CPU)
        assert all(map(torch.equal, values, classifier.parameters()))
        assert [module.training for module in classifier.modules()] == modes
        assert [tensor.requires_grad for tensor in classifier.parameters()] == required
        assert torch.equal(torch.get_rng_state(), random)
        assert trained[0].grad is gradient
        assert all(tensor.grad is None for tensor in trained[1:])
        again = measure_batch(classifier, {**batch(4), "labels": torch.tensor([0, 1, 2, 0])}, training, CPU)
        assert again == costs


def test_a_step_that_diverges_leaves_the_weights_as_they_were() -> None:
    model = tiny("bert")
    before = everything(model)
    with attach(model, method("bitfit")) as attached:
        classifier = TaskModel(attached.model, TASK.new_head(48, Training()), attached)
        with torch.no_grad():
            classifier.head.weight.fill_(float("inf"))
        measure_batch(classifier, {**batch(4), "labels": torch.tensor([0, 1, 2, 0])}, Training(batch_size=4), CPU)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_longest_texts_are_measured() -> None:
    lengths = np.array([3, 30, 5, 17, 9])
    ids = Column.ragged([np.full(length, 7) for length in lengths], np.int32)
    data = Dataset({"input_ids": ids, "labels": Column(np.array([0, 1, 2, 0, 1]))}, 64)
    training = Training(batch_size=4, micro_batch_size=2)
    with attach(tiny("bert"), method("lora")) as attached:
        classifier = TaskModel(attached.model, TASK.new_head(48, Training()), attached)
        candidate = Candidate("lora", (Part("lora"),), training)
        costs = measure(classifier, data, candidate, CPU)
        mask = (torch.arange(32) < torch.tensor([[30], [17]])).long()
        inputs = {"input_ids": mask * 7, "attention_mask": mask}
        assert costs == measure_batch(classifier, {**inputs, "labels": torch.tensor([1, 0])}, training, CPU)


def test_the_public_pair_agrees_and_leaves_the_model_as_it_was() -> None:
    model = tiny("llama")
    before, sites = everything(model), find_sites(model)
    asked = {"batch_size": 3, "length": 12, "labels": 4, "gradient_checkpointing": True}
    for wanted in ("lora", method("lora_parallel"), [method("lora", rank=2)]):
        predicted, measured = predict(model, wanted, **asked), measure_method(model, wanted, **asked)
        assert predicted.memory == pytest.approx(measured.memory, rel=0.002)
        for name in ("trainable", "stored", "flops", "inference_flops", "overhead"):
            assert getattr(predicted, name) == getattr(measured, name)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert find_sites(model) == sites
    assert not any(tensor.requires_grad and tensor.grad is not None for tensor in model.parameters())


def test_of_a_model_with_a_head_the_part_below_it_is_measured() -> None:
    model = LlamaForSequenceClassification(tiny("llama").config)
    costs = measure_method(model, "lora", batch_size=3, length=12)
    assert costs.trainable == predict(model, "lora", length=12).trainable
    assert costs.memory == measure_method(model.base_model, "lora", batch_size=3, length=12).memory


def test_a_model_without_the_head_that_its_task_needs_is_answered() -> None:
    with pytest.raises(AutopeftError, match=r"as AutoModelForCausalLM gives it; LlamaModel has none"):
        measure_method(tiny("llama"), "lora", task="text-generation")


def test_a_text_that_is_longer_than_the_positions_is_neither_predicted_nor_measured() -> None:
    prompt, answer = method("prompt_tuning", length=10), "70 tokens (10 of them prepended by the method) are more than"
    for ask in (predict, measure_method):
        with pytest.raises(CannotAttach, match=re.escape(answer)):
            ask(tiny("bert"), prompt, length=60)
    assert measure_method(tiny("bert"), prompt, length=54, batch_size=2).memory > 0
