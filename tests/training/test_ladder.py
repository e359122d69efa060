"""The ladder learns in the loop from a head that was fitted to the bare backbone's states, which it replaces."""

from pathlib import Path

import pytest
import torch

from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards
from autopeft.tasks.metrics import ACCURACY
from autopeft.training.evaluation import evaluate
from autopeft.training.loop import set_up, train
from autopeft.training.model import TaskModel
from autopeft.training.probe import fit_probes
from tests.sampled import sampled
from tests.tiny import CONFIGS, tiny
from tests.training.data import TASK, split

CPU = torch.device("cpu")
TRAIN, VALIDATION = split(160, 0), split(80, 1)


@pytest.mark.parametrize(("architecture", "residual"), sampled(CONFIGS, (False, True), every=4))
def test_it_learns_from_the_probe_on(architecture: str, residual: bool, tmp_path: Path) -> None:
    """The tiny GPT-2's embeddings are so small that the biases of what reads them drown them: here they are larger."""
    part = Part("ladder", {"reduction": 4, "samples": 16, "residual": residual}, 1e-2)
    training = Training(batch_size=8, epochs=10, head_learning_rate=1e-2)
    candidate = Candidate("ladder", (part,), training)
    model = tiny(architecture)
    if architecture == "gpt2":
        model.wte.weight.data.mul_(10.0)
    probe = fit_probes(model, 48, TASK, TRAIN, VALIDATION, ["mean"], tmp_path)["mean"]
    torch.manual_seed(7)
    with attach(model, configured_parts(candidate.parts, load_cards())) as attached:
        head = TASK.new_head(48, training)
        probe.start(head)
        classifier = TaskModel(model, head, attached)
        set_up(classifier, TRAIN, seed=1, device=CPU)
        first = evaluate(classifier, VALIDATION, CPU).statistics
        rungs = list(train(classifier, TRAIN, VALIDATION, candidate, ACCURACY, seed=1, device=CPU))
    assert not residual or (first == probe.statistics).all()
    assert rungs[-1].score >= 0.9
    assert rungs[-1].loss < 0.4
