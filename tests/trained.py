"""A folder of a trained method on a tiny backbone, as a search leaves it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import autopeft
from autopeft.artifacts import Description, save_artifact
from autopeft.backbone.load import load_backbone
from autopeft.methods.attached import attach
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.tasks.base import Task
from autopeft.tasks.text_classification import TextClassification

TEXTS = ["w7 w8 w9", "w20", "w30 w31 w32 w33 w34 w35 w36", "w50 w51"]
PAIRS = [("w7 w8", "w9"), ("w20", "w21 w22 w23")]
LABELS = ("bad", "fair", "good")


def artifact(folder: Path, backbone: Path, what: Sequence[str], pooling: str = "mean") -> tuple[Tensor, Tensor]:
    """Trains nothing, but gives method and head values that training could have given."""
    living = load_backbone(str(backbone))
    generator = torch.Generator().manual_seed(4)
    task = TextClassification(("text",), LABELS)
    description = Description(str(backbone), task, 16, living.fingerprint)
    candidate = Candidate("+".join(what), tuple(Part(each) for each in what), Training(pooling=pooling))
    head = task.new_head(living.sites.width, candidate.training)
    with attach(living.model, what, living.sites) as attached, torch.no_grad():
        for tensor in (*attached.parameters(), *head.parameters()):
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
        trained = autopeft.TrainedModel(living, attached, head, description)
        logits, pairs = trained.logits(TEXTS), of_pairs(trained).logits(PAIRS)
        save_artifact(folder, attached, head, description, candidate)
    return logits, pairs


def of_task(
    folder: Path, backbone: Path, task: Task, what: Sequence[str] = ("lora",), pooling: str = "mean", bias: bool = True
) -> Path:
    """The folder of a method and a head for any task, with values that training could have given."""
    living = load_backbone(str(backbone))
    generator = torch.Generator().manual_seed(4)
    task = task.on(living)
    candidate = Candidate("+".join(what), tuple(Part(each) for each in what), Training(pooling=pooling))
    head: Any = task.new_head(living.sites.width, candidate.training)
    with attach(living.model, what, living.sites) as attached, torch.no_grad():
        for tensor in (*attached.parameters(), *head.parameters()):
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
        head.bias.mul_(bias)
        return save_artifact(
            folder, attached, head, Description(str(backbone), task, 16, living.fingerprint), candidate
        )


def of_pairs(trained: autopeft.TrainedModel) -> autopeft.TrainedModel:
    """The same model, as if it had been trained on pairs."""
    description = replace(trained.description, task=TextClassification(("text", "other"), LABELS))
    return autopeft.TrainedModel(trained.backbone, trained.attached, trained.model.head, description)
