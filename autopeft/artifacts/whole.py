"""transformers' own class of a model with a head, where it computes what backbone and trained head compute.

Whether it does is tried: the class is made of the model's configuration, gets the head's weights in the ways that its
shapes allow, and is asked beside the trained model, many inputs at a time and each alone. A class with a pooler or
further layers that are in the way is none; nor is one whose head has no bias where the trained one needs it.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PretrainedConfig

from autopeft.artifacts.trained import TrainedModel
from autopeft.backbone.load import quietly
from autopeft.data.store import MASK, Dataset
from autopeft.tasks.base import Task
from autopeft.training.precision import FLOAT32

_APART = 1e-4
"""By how much logits may differ, as a fraction of the largest of them, or of 1."""
Weights = Mapping[str, Tensor]


def labelled(config: PretrainedConfig, task: Task) -> PretrainedConfig:
    """A copy of a model's configuration that names the task's outputs, as transformers does."""
    named = copy.deepcopy(config)
    if task.causal:
        return named
    if names := task.output_names:
        named.id2label = dict(enumerate(names))
        named.label2id = {name: number for number, name in enumerate(names)}
    elif task.auto_class:
        named.num_labels = 1
    # transformers makes a probability of a single output that no regression has.
    kind = task.problem_type or ("regression" if task.auto_class and not task.output_names else None)
    named.problem_type = kind  # type: ignore[assignment]
    return named


def whole(trained: TrainedModel) -> Any:
    """The class of transformers that gives the answers of a merged model with its head; None where there is none."""
    plain: Any = trained.backbone.model
    model = _empty(trained.task, plain.config)
    prefix = model.base_model_prefix if model is not None else ""
    own: Any = getattr(model, prefix, None)
    if model is not None and (output := trained.backbone.output) is not None:
        for name, each in [(prefix, plain)] if own is not None else [*plain.named_children()]:
            setattr(model, name, each)
        model.set_output_embeddings(output.linear)
        if output.shift is not None:
            model.final_logits_bias = output.shift
        return model.requires_grad_(False).eval() if _alike(model, trained) else None
    if model is None or type(own) is not type(plain):
        return None
    padding = getattr(trained.backbone.processor, "pad_token_id", None)
    if getattr(model.config, "pad_token_id", None) is None and padding is not None:
        model.config.pad_token_id = padding  # By which decoders find the last token.
    pooler = getattr(own, "pooler", None)
    adopted = (
        pooler is not None and getattr(plain, "pooler", pooler) is None and not any(True for _ in pooler.parameters())
    )
    setattr(model, prefix, plain)
    if adopted:
        plain.pooler = pooler
    for weights in _settings(model, trained):
        model.load_state_dict(weights, strict=False, assign=True)
        model.requires_grad_(False).eval()
        if _alike(model, trained):
            return model
    if adopted:
        plain.register_module("pooler", None)
    return None


def read_whole(folder: Path, trained: TrainedModel) -> nn.Module:
    """The class that a folder holds, as transformers loads it."""
    kind = getattr(transformers, trained.task.auto_class)
    with quietly():
        model: nn.Module = kind.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def random_parts(task: Task, config: PretrainedConfig) -> tuple[str, ...]:
    """The weights that transformers would make up if a bare model were loaded as the task's class, without its base's;
    none where it has no such class for it.
    """
    model = _empty(task, config)
    inside = f"{model.base_model_prefix}." if model is not None else ""
    return tuple(name for name, _ in model.named_parameters() if not name.startswith(inside)) if model else ()


def place_in_whole(task: Task, config: PretrainedConfig) -> str | None:
    """Where a bare model lies in the models that peft's methods go on, such as `model.`; empty where its parts lie
    there themselves (T5), None where these models are bare.
    """
    model = _empty(task, config) if task.peft_type != Task.peft_type else None
    if model is None:
        return None
    return f"{model.base_model_prefix}." if hasattr(model, model.base_model_prefix) else ""


def answers_of(task: Task, output: Tensor) -> Tensor:
    """The head's output in the unit of the answers, which is what other tools are to put out."""
    scale, offset = task.unit
    return output * scale + offset


def apart(found: Tensor, expected: Tensor, most: float) -> float | None:
    """By how much answers differ, where that is more than `most` as a fraction of the largest of them, or of 1."""
    by = (found - expected).abs().max().item() if found.shape == expected.shape else math.inf
    return None if by <= most * max(1.0, expected.abs().max().item()) else by


def compared(model: nn.Module, trained: TrainedModel, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """What a class of transformers puts out beside what the trained model does, so many samples at a time."""
    task, device = trained.task, next(model.parameters()).device
    for output, batch, _ in trained.outputs(task.samples(trained.backbone), rows, FLOAT32):
        expected, there = answers_of(task, output), {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.inference_mode():
            found = model(**trained.model.read(there)).logits.float().cpu()
        if task.causal:
            # Of the token that comes next.
            found = found[torch.arange(len(found)), trained.model.head.last(found, batch)]
        elif expected.ndim == 3:
            seen = batch[MASK][:, : expected.shape[1]] != 0
            expected, found = expected[seen], found[seen]
        yield found, expected


def _empty(task: Task, config: PretrainedConfig) -> Any:
    """The task's class for this configuration without values; None where there is none."""
    mapping = getattr(getattr(transformers, task.auto_class, None), "_model_mapping", {})
    kind: Any = mapping.get(type(config), None)
    kind = kind[0] if isinstance(kind, tuple | list) else kind
    if kind is None:
        return None
    try:
        with quietly(), torch.device("meta"):
            return kind._from_config(labelled(config, task))
    except Exception:  # It needs what the configuration of a bare model does not say.
        return None


def _settings(model: nn.Module, trained: TrainedModel) -> Iterator[Weights]:
    """The values that the class's head may have, for each way in which it could do what the trained one does."""
    empty = {name for name, each in (*model.named_parameters(), *model.named_buffers()) if each.is_meta}
    linear = [name for name, each in model.named_modules() if isinstance(each, nn.Linear) and f"{name}.weight" in empty]
    if len(linear) != 1 or empty - {f"{linear[0]}.weight", f"{linear[0]}.bias"}:
        return
    last: Any = model.get_submodule(linear[0])
    head, (scale, offset) = trained.model.head, trained.task.unit
    weight, bias = head.weight.detach() * scale, head.bias.detach() * scale + offset
    if last.out_features != len(weight):
        return
    biases = {f"{linear[0]}.bias": bias}
    if last.bias is None:
        one = _one(trained.backbone.model, weight.shape[1]) if bias.any() else torch.zeros(weight.shape[1])
        if one is None:
            return
        biases, weight = {}, weight + torch.outer(bias, one)
    if last.in_features == weight.shape[1]:
        yield {f"{linear[0]}.weight": weight.clone(), **biases}
    elif last.in_features == 2 * weight.shape[1]:
        # DINOv2's reads the class token beside the mean of the patches.
        yield {f"{linear[0]}.weight": torch.cat([weight, torch.zeros_like(weight)], dim=1), **biases}
        of_token = 1 / _places(trained)
        yield {f"{linear[0]}.weight": torch.cat([weight * of_token, weight * (1 - of_token)], dim=1), **biases}


def _one(plain: nn.Module, width: int) -> Tensor | None:
    """(width,) what makes 1 of all states where a LayerNorm with a bias gave them, as in GPT-2: without its weight and
    bias their features add up to 0. None where there is none.
    """
    norms = [each for each in plain.modules() if isinstance(each, nn.LayerNorm) and each.normalized_shape == (width,)]
    last: Any = norms[-1] if norms else None
    if last is None or last.bias is None:
        return None
    back = 1 / last.weight.detach().double()
    one: Tensor = (back / (back * last.bias.detach().double()).sum()).float()
    return one


def _places(trained: TrainedModel) -> int:
    """How many states the bare model gives of a sample."""
    task, backbone = trained.task, trained.backbone
    data = Dataset(task.encoded(task.samples(backbone)[:1], backbone, 1), 1)
    with torch.inference_mode():
        return int(backbone.model(**trained.model.read(data.batch([0]))).last_hidden_state.shape[1])


def _alike(model: nn.Module, trained: TrainedModel) -> bool:
    """Whether both give equal logits, alone and together."""
    try:
        return all(
            apart(found, expected, _APART) is None
            for rows in (len(trained.task.samples(trained.backbone)), 1)
            for found, expected in compared(model, trained, rows)
        )
    except Exception:  # It wants other inputs, or more of the bare model than this one has.
        return False
