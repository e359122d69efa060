"""From a folder to a trained model.

A folder may come from a stranger: loading it runs no code of his, and ends in a trained model or in an AutopeftError.
"""

import warnings
from pathlib import Path

import torch
from torch import nn

from autopeft.artifacts.description import MERGED, Description, read_description
from autopeft.artifacts.saving import HEAD
from autopeft.artifacts.trained import TrainedModel
from autopeft.backbone.load import Backbone, load_backbone
from autopeft.backbone.place import pinned
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.methods.attached import attach_saved
from autopeft.methods.hooked import copy_into, read_tensors
from autopeft.space.candidate import Candidate
from autopeft.tasks.base import Task
from autopeft.training.precision import held_as, packed_as


def load(
    folder: str | Path,
    model: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    trust_remote_code: bool = False,
) -> TrainedModel:
    """Backbone and trained method from a folder that autopeft wrote; `model` where the backbone lies elsewhere now.

    >>> load("winner/").predict("a stirring, funny film")

    It lies on `device`, as a rule the CPU. The backbone's weights are held as `dtype`: as they were in training, which
    is the rule; "float32"; in half the memory "bfloat16" or "float16", with which answers are a little less exact; in
    less of it "int8" or "nf4"; or "auto", as a search on this device would hold them. A method or a task of your own
    must be known first: `autopeft.register`. Code that comes with the backbone runs only with `trust_remote_code`.
    Warns where `model` holds other weights than those that the method was trained on. Raises AutopeftError.
    """
    if dtype is not None:
        held_as(dtype)
    return load_trained(Path(folder), model, device, model is None, trust_remote_code, dtype)


def load_trained(
    folder: Path,
    model: str | None,
    device: str | torch.device | None,
    strict: bool,
    trust_remote_code: bool,
    dtype: str | torch.dtype | None = None,
) -> TrainedModel:
    """Where the backbone holds other weights it is refused, or, if not `strict`, told."""
    on = _device(device)
    description, candidate = read_description(folder)
    merged = description.backbone == MERGED
    if merged and model is not None:
        raise AutopeftError(f"'{folder}' holds the merged model itself; it goes on no other backbone.")
    if merged and not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise AutopeftError(f"'{folder}' holds no merged model: model.safetensors is missing.")
    name = model or (str(folder) if merged else pinned(description.backbone, description.revision))
    wanted = description.dtype if dtype is None else dtype
    backbone = _backbone(folder, name, wanted, on, trust_remote_code, description.task.causal)
    if description.fingerprint and description.fingerprint != backbone.fingerprint:
        _tell_of_other_weights(folder, description, model or description.backbone, strict)
    if (task := description.task).on(backbone) != task:
        raise AutopeftError(
            f"'{folder}' was trained on {task.noun}s as another processor makes them than that of '{name}': give the "
            "one that lay beside the backbone then."
        )
    backbone.to(on)
    attached = None if merged else attach_saved(backbone.model, folder, backbone.sites)
    head = _read_head(folder / HEAD, description.task, backbone.sites.width, candidate).to(on)
    return TrainedModel(backbone, attached, head, description)


def _backbone(
    folder: Path, name: str, held: str | torch.dtype, on: torch.device, trust_remote_code: bool, causal: bool
) -> Backbone:
    try:
        return load_backbone(
            name,
            held_as(held, on),
            trust_remote_code=trust_remote_code,
            causal=causal,
            quantised=packed_as(held),
        )
    except (AutopeftError, OSError) as error:
        advice = f"If its backbone lies elsewhere now, say where: load('{folder}', model=...)."
        raise AutopeftError(f"'{folder}' cannot be loaded: {error} {advice}") from error


def _tell_of_other_weights(folder: Path, description: Description, model: str, strict: bool) -> None:
    """A method on other weights answers, but wrongly; who names a backbone himself is only told."""
    what = f"'{model}' holds other weights than those that '{folder}' was trained on"
    if not strict:
        warnings.warn(f"{what}: its answers are others than those that were measured.", stacklevel=4)
        return
    then = f" at revision {description.revision}" if description.revision else ""
    raise AutopeftError(
        f"{what}{then}: its answers would be others than those that were measured. Say where the right one lies, or "
        f"that this one is meant: load('{folder}', model='{model}')."
    )


def _device(wanted: str | torch.device | None) -> torch.device:
    try:
        device = torch.empty(0, device=wanted or "cpu").device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise AutopeftError(f"{brief(wanted)} is no device of this machine: {str(error).splitlines()[0]}.") from error
    if device.type == "meta":
        raise AutopeftError("'meta' is no device of this machine: it holds shapes only, and computes nothing.")
    return device


def _read_head(file: Path, task: Task, width: int, candidate: Candidate) -> nn.Module:
    """The head gets memory only when the file is known to hold one of its shape."""
    with torch.device("meta"):
        head: nn.Module = task.new_head(width, candidate.training)
    values = read_tensors(file)
    copy_into(head.state_dict(), values, file)
    head.to_empty(device="cpu")
    copy_into(head.state_dict(), values, file)
    return head
