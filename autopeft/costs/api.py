"""Costs of one method for people who write Python: `predict` without weights, and `measure` on a real model."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from autopeft.backbone.find import find_sites
from autopeft.backbone.held import hold, holding
from autopeft.backbone.inputs import bare as below_head
from autopeft.backbone.limits import require_positions
from autopeft.backbone.load import Skeleton, load_skeleton, without_head
from autopeft.backbone.output import output_of
from autopeft.backbone.quantised import PACKED_FROM, pack
from autopeft.costs.calibration import costs_of_training
from autopeft.costs.measure import measure_batch, measure_calibrations, measure_evaluation, measure_inference
from autopeft.costs.predict import Predictor
from autopeft.costs.shared import shared_predictor
from autopeft.data.store import LABELS, MASK, PIXELS
from autopeft.errors import AutopeftError, require_extra, unknown
from autopeft.methods.attached import Wanted, attach, parts_of, require_capable
from autopeft.methods.registry import Configured
from autopeft.plan import AUTO, QUANTISED
from autopeft.plan import DTYPES as UNQUANTISED
from autopeft.space.candidate import Training
from autopeft.space.cards import Card
from autopeft.tasks.base import Task
from autopeft.tasks.named import task_named
from autopeft.training.model import States, TaskModel
from autopeft.training.precision import held_as, packed_as
from autopeft.trial import Costs

DTYPES = (*UNQUANTISED, *QUANTISED)
"""What a backbone's weights may be held in."""


def predict(
    model: str | PretrainedConfig | PreTrainedModel,
    method: Wanted,
    *,
    batch_size: int = 16,
    length: int = 128,
    task: str = "text-classification",
    labels: int = 2,
    micro_batch_size: int | None = None,
    gradient_checkpointing: bool = False,
    dtype: str | None = None,
    trust_remote_code: bool = False,
) -> Costs:
    """What training a method on a task with so many labels would cost, known without training and without weights.

    >>> predict("bert-base-uncased", method("lora", rank=8), batch_size=32).memory

    With `micro_batch_size`, gradients are accumulated over so many examples at a time. `dtype` is what the backbone's
    weights are held in: float32, bfloat16, float16, nf4 or int8 as bitsandbytes quantises them, or auto, as a
    search here would hold them; when not given that of a model, else auto. Of a model only this and its configuration
    are used. Code that comes with a model runs only with `trust_remote_code`. Raises AutopeftError for a model that
    cannot be had, and CannotAttach with the reason for a method that does not go on it.
    """
    training = _training(batch_size, micro_batch_size, gradient_checkpointing)
    kind, parts = task_named(task).sized(labels), tuple(parts_of(method))
    return predictor_of(model, dtype, {}, kind, length, trust_remote_code, parts=parts).predict_parts(parts, training)


def measure(
    model: PreTrainedModel,
    method: Wanted,
    *,
    batch_size: int = 16,
    length: int = 128,
    task: str = "text-classification",
    labels: int = 2,
    micro_batch_size: int | None = None,
    gradient_checkpointing: bool = False,
    dtype: str | None = None,
) -> Costs:
    """The same, read off one real training step on random inputs, and off inference on one, on the model's device.

    >>> measure(AutoModel.from_pretrained("bert-base-uncased"), method("lora", rank=8)).memory

    `batch_size` and `micro_batch_size` are examples, `length` is tokens. Of a model with a head what is below it is
    measured, under a head such as a search makes; only text-generation needs the model with its own, as
    AutoModelForCausalLM gives it. The model is as before afterwards; its weights are held in `dtype` meanwhile, where
    that is given. Raises AutopeftError for a model without the head that its task needs, and CannotAttach with the
    reason for a method that does not go on it.
    """
    training = _training(batch_size, micro_batch_size, gradient_checkpointing)
    if format := packed_as(dtype or AUTO):
        require_extra("quantised")
        model = copy.deepcopy(model)
        hold(model, PACKED_FROM)
        pack(without_head(model) if task_named(task).causal else model, format)
        return _measured(model, method, training, length, task, labels)
    with holding(model, model.dtype if dtype is None else held_as(dtype, model.device)):
        return _measured(model, method, training, length, task, labels)


def _measured(model: PreTrainedModel, method: Wanted, training: Training, length: int, task: str, labels: int) -> Costs:
    device, kind = model.device, task_named(task)
    if kind.causal and cast(Any, model).get_output_embeddings() is None:
        raise AutopeftError(
            f"'{kind.name}' is measured on a model with its own head, as AutoModelForCausalLM gives it; "
            f"{type(model).__name__} has none."
        )
    output = output_of(type(model).__name__, model) if kind.causal else None
    model = without_head(model) if kind.causal else cast(PreTrainedModel, below_head(model))
    sites = find_sites(model, states_only=True)
    learned = kind.sized(labels).on(Skeleton(type(model).__name__, model, sites))
    parts = tuple(parts_of(method))
    require_capable(parts, learned.needs)
    with torch.random.fork_rng(), _frozen(output):
        examples = partial(_examples, learned, model, length, labels)
        batch = examples(training.at_once)
        one = {name: tensor[-1:].to(device) for name, tensor in batch.items()}
        bare = measure_inference(TaskModel(model, States(), inputs=learned.inputs), one)
        with attach(model, parts, sites) as attached:
            require_positions(model, length, attached.prepended)
            head = learned.new_head(sites.width, training).to(device)
            trained = TaskModel(model, head, attached, learned.inputs, output)
            costs = measure_batch(trained, batch, training, device)
            left = attached.remaining
            calibrations = measure_calibrations(trained, examples, device)
            evaluation = measure_evaluation(trained, batch, device)
        merged = bare
        if left:
            with attach(model, left, sites) as attached:
                attached.settle()
                merged = measure_inference(TaskModel(model, States(), attached, learned.inputs), one)
    return replace(
        costs_of_training(costs, calibrations, evaluation), inference_flops=merged, overhead=merged / bare - 1
    )


@contextmanager
def _frozen(output: nn.Module | None) -> Iterator[None]:
    """A borrowed output embedding is not trained, unless it is tied to weights that a method trains."""
    flags = [(each, each.requires_grad) for each in output.parameters()] if output is not None else []
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _examples(task: Task, model: PreTrainedModel, length: int, labels: int, rows: int) -> Mapping[str, torch.Tensor]:
    """So many rows at random; one of the first ends in padding, so that attention needs its mask."""
    most = {MASK: 2, LABELS: labels, PIXELS: 256}
    words = getattr(model.config.get_text_config(), "vocab_size", 0)
    batch = {}
    for name, (dtype, shape) in task.shapes(length).items():
        batch[name] = torch.randint(most.get(name, words), (rows, *shape)).to(dtype)
    if MASK in batch:
        batch[MASK][:] = 1
        batch[MASK][0, -1] = 0
    return batch


def predictor_of(
    model: str | PretrainedConfig | PreTrainedModel,
    dtype: str | None,
    cards: Mapping[str, Card],
    task: Task,
    length: int,
    trust_remote_code: bool = False,
    rows: int | None = None,
    parts: Iterable[Configured] = (),
) -> Predictor:
    """A predictor for what was given, its weights held in `dtype`, with so many rows to calibrate on; for candidates of
    the cards, or for these parts. Raises AutopeftError.
    """
    dtype = None if dtype is None else str(dtype).removeprefix("torch.")
    if dtype is not None and dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    config = model.config if isinstance(model, PreTrainedModel) else model
    held = model.dtype if dtype is None and isinstance(model, PreTrainedModel) else held_as(dtype or AUTO)
    skeleton = load_skeleton(
        config, held, trust_remote_code=trust_remote_code, causal=task.causal, quantised=packed_as(dtype or AUTO)
    )
    return shared_predictor(skeleton, cards, task.on(skeleton), length, parts, rows=rows)


def _training(batch_size: int, micro_batch_size: int | None, gradient_checkpointing: bool) -> Training:
    return Training(
        batch_size=batch_size, micro_batch_size=micro_batch_size, gradient_checkpointing=gradient_checkpointing
    )
