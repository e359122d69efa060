"""A trained method as a folder: save, load, export, merge.

The folder holds the method's tensors (in peft's own format where the method is peft's, so that
`peft.PeftModel.from_pretrained` reads it), the task head, and `autopeft.json`, which says on which backbone and for
which task it was trained. A merged folder holds a plain transformers model instead of the method.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from autopeft.backbone.load import Backbone, load_backbone, quietly
from autopeft.errors import AutopeftError
from autopeft.methods.attached import Attached, attach_saved
from autopeft.methods.hooked import copy_into, read_tensors
from autopeft.space.candidate import Candidate
from autopeft.tasks.base import task_named
from autopeft.tasks.classifier import Bare, Classifier
from autopeft.tasks.tokenized import encode

DESCRIPTION = "autopeft.json"
HEAD = "head.safetensors"
MERGED = "."


@dataclass(frozen=True)
class Description:
    """What a trained method was trained on and for."""

    backbone: str
    """Folder or hub name of the backbone; '.' when the folder itself holds the merged model."""
    task: str
    labels: tuple[str, ...]
    text: tuple[str, ...]
    """Text columns of the training data."""
    max_length: int


class TrainedModel:
    """Backbone, method and head together, ready to predict."""

    def __init__(
        self, backbone: Backbone, attached: Attached | None, head: nn.Module, description: Description, pooling: str
    ):
        self.description = description
        self.backbone = backbone
        self.attached = attached
        self.classifier = Classifier(attached or Bare(backbone.model), head, pooling).eval()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the logits."""
        return self.description.labels

    @torch.inference_mode()
    def logits(self, texts: Sequence[str] | Sequence[tuple[str, str]], batch_size: int = 32) -> Tensor:
        """(texts, classes) logits in fp32. A pair is a tuple of two texts."""
        device = next(self.classifier.parameters()).device
        parts = []
        for start in range(0, len(texts), batch_size):
            batch = encode(self.backbone.tokenizer, texts[start : start + batch_size], self.description.max_length)
            parts.append(self.classifier({name: tensor.to(device) for name, tensor in batch.items()}).float().cpu())
        return torch.cat(parts) if parts else torch.empty(0, len(self.labels))

    def predict(self, texts: Sequence[str] | Sequence[tuple[str, str]], batch_size: int = 32) -> list[str]:
        """The most likely class of each text."""
        return [self.labels[index] for index in self.logits(texts, batch_size).argmax(-1).tolist()]


def save_artifact(
    folder: Path, attached: Attached, head: nn.Module, description: Description, candidate: Candidate
) -> Path:
    """Writes a trained method with its head; the folder appears whole or not at all."""
    temporary = folder.with_name(folder.name + ".writing")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        attached.save(temporary)
        _write(temporary, head, description, candidate.to_dict())
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    finally:
        # Of a full disk not even half of it is kept.
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def load(folder: str | Path, model: str | None = None) -> TrainedModel:
    """Backbone and trained method from a folder that autopeft wrote; `model` where the backbone lies elsewhere now.

    >>> load("winner/").predict(["a stirring, funny film"])

    Raises AutopeftError.
    """
    folder = Path(folder)
    description, candidate = read_description(folder)
    merged = description.backbone == MERGED
    if merged and model is not None:
        raise AutopeftError(f"'{folder}' holds the merged model itself; it goes on no other backbone.")
    backbone = _backbone(folder, model or (str(folder) if merged else description.backbone))
    attached = None if merged else attach_saved(backbone.model, folder, backbone.sites)
    head = task_named(description.task, description.labels).new_head(backbone.sites.width)
    copy_into(head.state_dict(), read_tensors(folder / HEAD), folder / HEAD)
    return TrainedModel(backbone, attached, head, description, candidate["training"]["pooling"])


def export(artifact: str | Path, to: str | Path, merge: bool = False, model: str | None = None) -> Path:
    """Copies a trained method to a new folder; with `merge` the backbone with the method folded into its weights.
    `model` is where the backbone lies now, if elsewhere.

    transformers' `AutoModel` loads a merged folder too.

    Raises AutopeftError when the target holds something, CannotMerge when the method's mathematics do not allow it.
    """
    artifact, to = Path(artifact), Path(to)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise AutopeftError(f"'{to}' exists and is not an empty folder; give another one.")
    description, candidate = read_description(artifact)
    if model == description.backbone:
        model = None
    if not merge:
        shutil.copytree(artifact, to, dirs_exist_ok=True)
        if model is not None:
            _describe(to, replace(description, backbone=model), candidate)
        return to
    trained = load(artifact, model)
    if trained.attached is None:
        raise AutopeftError(f"'{artifact}' is merged already.")
    plain = trained.attached.merge()
    to.mkdir(parents=True, exist_ok=True)
    with quietly():
        plain.save_pretrained(to)  # type: ignore[operator]
    trained.backbone.tokenizer.save_pretrained(to)
    _write(to, trained.classifier.head, Description(**{**asdict(description), "backbone": MERGED}), candidate)
    return to


def read_description(folder: Path) -> tuple[Description, Mapping[str, Any]]:
    """What a folder was trained on, and the candidate as plain values. Raises AutopeftError for a folder of others."""
    try:
        plain = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        task, candidate = plain["description"], plain["candidate"]
        description = Description(**{**task, "labels": tuple(task["labels"]), "text": tuple(task["text"])})
    except OSError as error:
        raise AutopeftError(f"'{folder}' is no folder of a trained method: {DESCRIPTION} is missing.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise AutopeftError(f"'{folder / DESCRIPTION}' is damaged: {error}.") from error
    return description, candidate


def _backbone(folder: Path, name: str) -> Backbone:
    try:
        return load_backbone(name)
    except AutopeftError as error:
        advice = f"If its backbone lies elsewhere now, say where: load('{folder}', model=...)."
        raise AutopeftError(f"'{folder}' cannot be loaded: {error} {advice}") from error


def _write(folder: Path, head: nn.Module, description: Description, candidate: Mapping[str, Any]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}, folder / HEAD)
    _describe(folder, description, candidate)


def _describe(folder: Path, description: Description, candidate: Mapping[str, Any]) -> None:
    plain = {"description": asdict(description), "candidate": candidate}
    (folder / DESCRIPTION).write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
