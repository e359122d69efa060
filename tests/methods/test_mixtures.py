"""Candidates of the default space, half of them free mixtures, on a tiny BERT and on a tiny Llama."""

import random

import pytest
import torch

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import load_skeleton
from autopeft.costs.predict import Predictor
from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Training
from autopeft.space.parameters import Parameter
from autopeft.space.space import MIXTURE, load_space
from autopeft.tasks.text_classification import TextClassification
from autopeft.training.loss import loss_of
from autopeft.training.model import TaskModel
from autopeft.training.optimizer import new_optimizer, parameter_groups
from tests.tiny import CONFIGS, batch, tiny

TASK = TextClassification(("text",), ("no", "yes"))
CPU = torch.device("cpu")


class Drawn:
    """Draws at random, every other time a mixture."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def draw(self, name, parameter: Parameter):
        if name == "method" and MIXTURE in parameter.values and self._random.random() < 0.5:
            return MIXTURE
        if parameter.values:
            return self._random.choice(parameter.values)
        return parameter.value_of(self._random.uniform(parameter.low, parameter.high))


def candidates(architecture, wanted):
    """As a search gets them: drawn from the fitted space, and left out where the predictor refuses their settings."""
    predictor = Predictor(load_skeleton(CONFIGS[architecture]()), load_space("default").cards, TASK, 10)
    space = load_space("default").fitted(predictor.refusal)
    draws, found, turned_away = Drawn(5), [], []
    while len(found) < wanted:
        drawn = space.draw(draws)
        reason = predictor.refusal(drawn)
        if reason is None:
            found.append(drawn)
        else:
            turned_away.append(reason)
    return space.cards, found, turned_away


def take_two_steps(attached, candidate, width):
    classifier = TaskModel(attached.model, TASK.new_head(width, Training()), attached).train()
    optimizer = new_optimizer(parameter_groups(attached, classifier.head, candidate))
    labels = torch.tensor([0, 1, 0])
    given = {**batch(), "labels": labels}
    for step in (1, 2):
        loss_of(classifier, given, CPU, len(labels)).backward()
        assert all(
            torch.isfinite(each.tensor.grad).all() for each in attached.tensors() if each.tensor.grad is not None
        )
        optimizer.step()
        attached.stepped(step, 2)
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize(
    ("architecture", "wanted"),
    [("bert", 10), *(pytest.param(each, 100, marks=pytest.mark.long) for each in ("bert", "llama"))],
)
def test_random_candidates_attach_take_two_steps_and_come_off_bit_for_bit(architecture, wanted):
    cards, found, turned_away = candidates(architecture, wanted)
    model = tiny(architecture)
    sites = find_sites(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for candidate in found:
        with attach(model, configured_parts(candidate.parts, cards), sites) as attached:
            take_two_steps(attached, candidate, sites.width)
        model.eval()
        after = model.state_dict()
        assert before.keys() == after.keys(), candidate
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items()), candidate
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()), candidate
    assert len({candidate.name for candidate in found}) > wanted / 3
    assert len(turned_away) < wanted / 2, turned_away
