"""Calibrations: predicted as measured, and part of what a candidate costs."""

import pytest
import torch

from autopeft.costs.api import measure, predict
from autopeft.costs.calibration import costs_of_training
from autopeft.costs.measure import measure_calibrations
from autopeft.costs.meter import ACTIVATIONS, Meter
from autopeft.costs.step import Spent
from autopeft.costs.work import Work
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from autopeft.space.candidate import Training
from autopeft.tasks.text_classification import TextClassification
from autopeft.training.model import TaskModel
from autopeft.trial import Costs
from tests.sampled import sampled
from tests.tiny import CONFIGS, batch, tiny

CPU = torch.device("cpu")
CALIBRATED = {
    "fishmask": method("fishmask"),
    "far": method("far"),
    "far from base": method("far", resume_from="base", train_non_ffn=True),
    "ladder": method("ladder", reduction=2),
    "sparse_adapter": method("sparse_adapter", score="snip"),
    "sparse_adapter twice": method("sparse_adapter", score="grasp"),
    "lora and sparse_adapter": [method("lora"), method("sparse_adapter", score="snip")],
}
BLIND = [method("lora"), method("ladder", reduction=2, score="magnitude"), method("sparse_adapter", score="synflow")]


def bare(architecture):
    model = tiny(architecture)
    if hasattr(model, "pooler"):
        model.pooler = None
    return model


@pytest.mark.parametrize(
    ("architecture", "name"),
    sampled(CONFIGS, CALIBRATED, every=6),
)
def test_a_look_is_predicted_as_it_is_measured(architecture, name):
    given = {"batch_size": 4, "length": 16}
    predicted = predict(bare(architecture), CALIBRATED[name], **given)
    measured = measure(bare(architecture), CALIBRATED[name], **given)
    assert predicted.set_up_flops == measured.set_up_flops > 0
    assert predicted.memory == pytest.approx(measured.memory, rel=0.002)
    assert predicted.flops == measured.flops


@pytest.mark.parametrize("blind", BLIND, ids=lambda each: type(each.implementation).__name__)
def test_methods_that_need_no_data_look_at_none(blind):
    assert predict(bare("bert"), blind, batch_size=4, length=16).set_up_flops == 0


def test_the_operations_of_a_look_grow_with_its_samples_and_stop_with_the_batch():
    few, more = (
        predict(bare("bert"), method("fishmask", samples=samples), batch_size=4, length=16) for samples in (10, 30)
    )
    assert more.set_up_flops == 3 * few.set_up_flops
    assert (more.memory, more.flops) == (few.memory, few.flops)
    one, two = (predict(bare("bert"), method("far", samples=samples), length=16) for samples in (16, 17))
    assert two.set_up_flops == 2 * one.set_up_flops


def test_a_look_that_needs_more_memory_than_a_step_is_what_counts():
    """FAR primes with AdamW in fp32 on the CPU, whatever the batch that is trained on."""
    small, whole = (predict(bare("bert"), method("far"), batch_size=1, length=length) for length in (4, 64))
    weights = sum(4 * parameter.numel() for parameter in bare("bert").parameters())
    assert small.memory > 1.5 * weights
    assert whole.memory > small.memory


def test_the_larger_memory_counts_and_all_operations():
    step = Costs(trainable=1, memory=10, stored=4, flops=7, memory_by_part={"weights": 10})
    small, large = (Spent(size, {"weights": size}, size, {}, Work()) for size in (5, 20))
    assert costs_of_training(step, [small]) == Costs(1, 10, 4, 7, {"weights": 10}, set_up_flops=5)
    assert costs_of_training(step, [small, large]) == Costs(1, 20, 4, 7, {"weights": 20}, set_up_flops=25)
    assert costs_of_training(step, []).set_up_flops == 0


@pytest.mark.parametrize("name", CALIBRATED)
def test_measuring_a_look_leaves_backbone_modes_and_random_state_as_they_were(name):
    model = bare("bert")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    task = TextClassification(("text",), ("no", "yes"))
    with attach(model, CALIBRATED[name]) as attached:
        classifier = TaskModel(attached.model, task.new_head(48, Training()), attached)
        modes = [module.training for module in classifier.modules()]
        required = [parameter.requires_grad for parameter in model.parameters()]
        random = torch.get_rng_state()
        all_spent = measure_calibrations(
            classifier, lambda rows: {**batch(rows), "labels": torch.zeros(rows, dtype=torch.long)}, CPU
        )
        assert len(all_spent) == 1
        assert torch.equal(torch.get_rng_state(), random)
        assert [module.training for module in classifier.modules()] == modes
        assert [parameter.requires_grad for parameter in model.parameters()] == required
        assert not any(parameter.grad is not None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_bytes_on_another_device_do_not_count():
    """Fisher information and priming's moments lie on the CPU, and take nothing of a GPU."""
    with Meter(torch.device("cuda")) as elsewhere, Meter(CPU) as here:
        kept = torch.ones(100, requires_grad=True) * 2
    assert elsewhere.peak == 0
    assert here.peak_by_part[ACTIVATIONS] == 2 * kept.nbytes
