"""Costs of one method for people who write Python: `predict` without weights, and `measure` on a real model."""

import torch
from transformers import PretrainedConfig, PreTrainedModel

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import load_skeleton
from autopeft.costs.measure import measure_batch
from autopeft.costs.predict import Predictor
from autopeft.methods.attached import Wanted, attach, parts_of
from autopeft.space.candidate import Training
from autopeft.tasks.classification import TextClassification
from autopeft.tasks.classifier import Classifier
from autopeft.trial import Costs


def predict(
    model: str | PretrainedConfig | PreTrainedModel,
    method: Wanted,
    *,
    batch_size: int = 16,
    length: int = 128,
    labels: int = 2,
    gradient_checkpointing: bool = False,
) -> Costs:
    """What training a method on a classification task would cost, known without training and without weights.

    >>> predict("bert-base-uncased", method("lora", rank=8), batch_size=32).memory

    Of a model only its configuration is used. Raises AutopeftError for a model that cannot be had, and CannotAttach
    with the reason for a method that does not go on it.
    """
    skeleton = load_skeleton(model.config if isinstance(model, PreTrainedModel) else model)
    training = Training(batch_size=batch_size, gradient_checkpointing=gradient_checkpointing)
    return Predictor(skeleton, {}, labels, length).predict_parts(tuple(parts_of(method)), training)


def measure(
    model: PreTrainedModel,
    method: Wanted,
    *,
    batch_size: int = 16,
    length: int = 128,
    labels: int = 2,
    gradient_checkpointing: bool = False,
) -> Costs:
    """The same, read off one real training step on random tokens, on the model's device.

    The model must have no head, and is as before afterwards. Raises CannotAttach with the reason.
    """
    training = Training(batch_size=batch_size, gradient_checkpointing=gradient_checkpointing)
    task = TextClassification([str(label) for label in range(labels)])
    device = model.device
    sites = find_sites(model)
    with torch.random.fork_rng(), attach(model, method, sites) as attached:
        classifier = Classifier(attached, task.new_head(sites.width).to(device), training.pooling)
        ids = torch.randint(model.config.get_text_config().vocab_size, (batch_size, length))
        mask = torch.ones_like(ids)
        mask[0, -1] = 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        targets = torch.arange(batch_size) % labels
        return measure_batch(classifier, attached, task, inputs, targets, training, device)
