"""What a step costs whose frozen layers' states are kept: predicted to the operation, and never more memory."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import load_skeleton
from autopeft.costs.evaluating import EvaluationStep
from autopeft.costs.predict import Predictor
from autopeft.costs.step import Spent, Step
from autopeft.data.store import Column, Dataset
from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Candidate, Part, Training, Value
from autopeft.space.cards import load_cards
from autopeft.tasks.text_classification import TextClassification
from autopeft.training.frozen import FrozenStates
from autopeft.training.model import TaskModel
from autopeft.trial import Costs
from tests.tiny import CONFIGS, tiny

CARDS = load_cards()
CPU = torch.device("cpu")
ROWS, LENGTH = 6, 16
TASK = TextClassification(("text",), ("no", "yes"))


def candidate(name: str, **settings: Value) -> Candidate:
    return Candidate(name, (Part(name, settings),), Training(batch_size=ROWS))


def predicted(layers: int, wanted: Candidate) -> Costs:
    config = CONFIGS["bert"]()
    config.num_hidden_layers = layers
    return Predictor(load_skeleton(config), CARDS, TextClassification.sized(2), LENGTH).predict(wanted)


def rows() -> Dataset:
    tokens = np.random.default_rng(0).integers(5, 90, (ROWS, LENGTH))
    return Dataset({"input_ids": Column.ragged([*tokens], np.int32), "labels": Column(np.arange(ROWS) % 2)}, LENGTH)


def steps(layers: int, wanted: Candidate) -> tuple[Sequence[Spent], Sequence[Spent]]:
    """A training step and an evaluation: plain ones, and those with all states kept, without the store itself."""
    model = tiny("bert", layers=layers)
    model.pooler = None
    sites, data, store = find_sites(model), rows(), FrozenStates(rows(), rows())
    with attach(model, configured_parts(wanted.parts, CARDS), sites) as attached:
        trained = TaskModel(model, TASK.new_head(sites.width, wanted.training), attached)
        tensors = [*attached.parameters(), *trained.head.parameters()]

        def both(batch: dict[str, torch.Tensor]) -> Sequence[Spent]:
            return Step(trained, wanted.training, CPU)(tensors, batch), EvaluationStep(trained, CPU)((), batch)

        plain = both(data.batch(range(ROWS)))
        with store.serving(trained, wanted.training, CPU):
            batch = store.train.batch(range(ROWS))
            both(batch)
            return plain, both(batch)


@pytest.mark.parametrize("layers", [4, pytest.param(12, marks=pytest.mark.grid)])
@pytest.mark.parametrize(
    "wanted",
    [candidate("lora", layers="last 50%"), candidate("top_layers"), candidate("ladder", samples=8)],
    ids=lambda wanted: wanted.name,
)
def test_its_operations_are_predicted(wanted: Candidate, layers: int) -> None:
    """Of the deep model by shallow ones."""
    costs, (_, (step, _)) = predicted(layers, wanted), steps(layers, wanted)
    assert costs.kept_flops == step.flops < costs.flops


@pytest.mark.parametrize("name", ["lora", "ladder"])
def test_with_kept_states_neither_a_step_nor_an_evaluation_takes_more_memory_than_without(name: str) -> None:
    """But for the numbers of the rows. The meter takes the mapped files for memory: they are left out."""
    settings: dict[str, Value] = {"layers": "last 50%"} if name == "lora" else {}
    plain, kept = steps(4, candidate(name, **settings))
    levels = 1 if name == "lora" else 3
    held = 4 * 48 * 2 * ROWS * LENGTH * levels + 8 * ROWS
    for one, other in zip(plain, kept, strict=True):
        assert other.memory - held <= one.memory


def test_it_costs_the_same_where_nothing_or_too_little_is_frozen() -> None:
    for wanted in (candidate("lora"), candidate("lora", layers=(1, 2, 3, 4, 5)), candidate("full")):
        costs = predicted(6, wanted)
        assert costs.kept_flops == costs.flops
