"""A trained method as a folder: save, load, export, merge.

The folder holds the method's tensors (in peft's own format where the method is peft's, so that
`peft.PeftModel.from_pretrained` reads it), the task head, and `autopeft.json`, which says on which backbone and for
which task it was trained. A merged folder holds a plain transformers model instead of the method.

A folder may come from a stranger: loading it runs no code of his, and ends in a trained model or in an AutopeftError.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from autopeft.backbone.load import Backbone, load_backbone, quietly
from autopeft.backbone.place import pinned
from autopeft.data.store import Dataset
from autopeft.errors import AutopeftError
from autopeft.files import beside
from autopeft.foreign import brief, printable
from autopeft.methods.attached import Attached, attach_saved
from autopeft.methods.hooked import copy_into, read_tensors
from autopeft.methods.saved import read_json
from autopeft.space.candidate import Candidate
from autopeft.tasks.base import Task
from autopeft.tasks.heads import POOLINGS, Batch
from autopeft.tasks.named import read_task
from autopeft.training.model import TaskModel
from autopeft.training.precision import FLOAT32, PRECISIONS, forward

DESCRIPTION = "autopeft.json"
VERSION = 2
"""Of what is written there."""
HEAD = "head.safetensors"
MERGED = "."
_WRITING = ".autopeft.writing"
_APART, _APART_MERGED = 1e-4, 1e-3
"""By how much an exported model's logits may differ in fp32, as a fraction of the largest of them, or of 1: merged, a
model of many layers is rounded in other places.
"""


@dataclass(frozen=True)
class Description:
    """What a trained method was trained on and for."""

    backbone: str
    """Folder or hub name of the backbone; '.' when the folder itself holds the merged model."""
    task: Task
    max_length: int
    fingerprint: str = ""
    """Of the backbone's weights; empty where it is not known, or where they are in the folder."""
    revision: str | None = None
    """The hub's commit of the backbone; None where there is none."""
    precision: str = FLOAT32
    """What forward passes were computed in when scores were measured: 'bfloat16' or 'float32'."""


class TrainedModel:
    """Backbone, method and head together, ready to predict."""

    def __init__(self, backbone: Backbone, attached: Attached | None, head: nn.Module, description: Description):
        self.description = description
        self.backbone = backbone
        self.attached = attached
        self.model = TaskModel(backbone.model, head, attached, description.task.inputs).eval()

    @property
    def task(self) -> Task:
        """What it was trained for."""
        return self.description.task

    def predict(self, given: Any, batch_size: int = 32) -> Any:
        """The answer to one input, or a list of those to many, as the task gives it: the class of a text, say.

        A model of single texts takes a string or a list of strings; a model of pairs a tuple of two strings, which is
        one pair, or a list of such; a model of words a text, or a tuple of its words, or a list of such. Arrays and
        columns of tables count as lists. Raises AutopeftError for other shapes.

        >>> model.predict("a stirring, funny film")
        'positive'
        >>> model.predict(["a stirring, funny film"])
        ['positive']
        """
        return self._answered(given, batch_size, self.task.answers)

    def scores(self, given: Any, batch_size: int = 32) -> Any:
        """How sure the model is of one input, or of many, as the task gives it: the probability of every class, say.

        Raises AutopeftError where the task gives none.
        """
        return self._answered(given, batch_size, lambda output, _: self.task.scores(output))

    @torch.inference_mode()
    def logits(self, given: Any, batch_size: int = 32) -> Any:
        """What the head puts out in fp32 for inputs as `predict` takes them: rows first, of one input without; a list
        where the task has an output of its own length for each.

        Computed in the precision in which the scores of the search were measured, where the device has it.
        """
        inputs, single = self.task.asked(given)
        found = [part for part, _ in self._parts(inputs, batch_size)]
        if not found:
            return torch.empty(0, int(self.model.head.out_features))
        if single:
            return found[0][0]
        return torch.cat(found) if isinstance(found[0], Tensor) else [each for part in found for each in part]

    def _answered(self, given: Any, batch_size: int, answer: Callable[[Any, Sequence[Any]], Sequence[Any]]) -> Any:
        inputs, single = self.task.asked(given)
        found = [each for part, some in self._parts(inputs, batch_size) for each in answer(part, some)]
        return found[0] if single else found

    def _parts(self, inputs: Sequence[Any], batch_size: int) -> Iterator[tuple[Any, Sequence[Any]]]:
        """What of the head's output belongs to each of the inputs, batch by batch, beside them."""
        for output, batch, some in self._outputs(inputs, batch_size, self.description.precision):
            yield self.task.parts(output, batch, some), some

    @torch.inference_mode()
    def _outputs(
        self, inputs: Sequence[Any], batch_size: int, precision: str
    ) -> Iterator[tuple[Tensor, Batch, Sequence[Any]]]:
        """What the head puts out on the CPU, batch by batch, beside what the model read of which inputs."""
        if not isinstance(batch_size, int) or batch_size < 1:
            raise AutopeftError(f"batch_size must be at least 1, not {brief(batch_size)}.")
        device = next(self.model.parameters()).device
        most = min(self.description.max_length, self.backbone.positions or self.description.max_length)
        for start in range(0, len(inputs), batch_size):
            some = inputs[start : start + batch_size]
            data = Dataset(self.task.encoded(some, self.backbone, most), most)
            batch = data.batch(np.arange(len(some)))
            there = {name: tensor.to(device) for name, tensor in batch.items()}
            output = forward(self.model, there, device, precision).cpu()
            if not torch.isfinite(output).all():
                raise AutopeftError(
                    f"the model gives no finite numbers for these {self.task.noun}s: its weights are spoiled, or too "
                    f"large for {precision}."
                )
            yield output, batch, some


def save_artifact(
    folder: Path, attached: Attached, head: nn.Module, description: Description, candidate: Candidate
) -> Path:
    """Writes a trained method with its head; the folder appears whole or not at all.

    It replaces an earlier one. Raises AutopeftError where something else lies there.
    """
    _require_replaceable(folder)
    temporary, earlier = beside(folder), beside(folder)
    try:
        attached.save(temporary)
        _write(temporary, head, description, candidate)
        if folder.exists():
            # Not removed in its place: half of it would be nobody's to replace.
            _require_replaceable(folder)
            folder.replace(earlier)
        temporary.replace(folder)
    finally:
        # Of a full disk not even half of it is kept.
        for each in (temporary, earlier):
            shutil.rmtree(each, ignore_errors=True)
    return folder


def _require_replaceable(folder: Path) -> None:
    if folder.exists() and not (folder / DESCRIPTION).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise AutopeftError(f"'{folder}' holds no trained method, but something else; it is not replaced.")


def load(
    folder: str | Path,
    model: str | None = None,
    device: str | torch.device | None = None,
    *,
    trust_remote_code: bool = False,
) -> TrainedModel:
    """Backbone and trained method from a folder that autopeft wrote; `model` where the backbone lies elsewhere now.

    >>> load("winner/").predict("a stirring, funny film")

    It lies on `device`, as a rule the CPU. A method of your own must be known first: `autopeft.register`. Code that
    comes with the backbone runs only with `trust_remote_code`. Warns where `model` holds other weights than those that
    the method was trained on. Raises AutopeftError.
    """
    return _load(Path(folder), model, device, strict=model is None, trust_remote_code=trust_remote_code)


def export(
    artifact: str | Path,
    to: str | Path,
    merge: bool = False,
    model: str | None = None,
    *,
    trust_remote_code: bool = False,
) -> Path:
    """Copies a trained method to a new folder; with `merge` the backbone with the method folded into its weights.

    `model` is where the backbone lies now, if elsewhere: the new folder knows it there. transformers' `AutoModel` loads
    a merged folder too. What was written is loaded again, and its logits of some texts are compared with those of the
    trained method; the folder appears whole or not at all.

    Raises AutopeftError when the target holds something, cannot be written, or answers otherwise, CannotMerge when the
    method's mathematics do not allow it.
    """
    artifact, to = Path(artifact), Path(to)
    if to.exists() and (not to.is_dir() or {each.name for each in to.iterdir()} - {_WRITING}):
        raise AutopeftError(f"'{to}' exists and is not an empty folder; give another one.")
    description, candidate = read_description(artifact)
    if merge and description.backbone == MERGED:
        raise AutopeftError(f"'{artifact}' is merged already.")
    if model == description.backbone:
        model = None
    with _appearing(to) as temporary:
        trained = _load(artifact, model, None, True, trust_remote_code)
        samples = description.task.samples(trained.backbone)
        ((expected, _, _),) = trained._outputs(samples, len(samples), FLOAT32)
        with _told_plainly(to):
            if merge:
                _write_merged(temporary, trained, candidate)
            else:
                _copy(artifact, temporary)
                _describe(temporary, replace(description, backbone=model or description.backbone), candidate)
        del trained
        again = _load(temporary, None, None, True, trust_remote_code)
        ((found, _, _),) = again._outputs(samples, len(samples), FLOAT32)
        apart = (found - expected).abs().max().item()
        if not apart <= (_APART_MERGED if merge else _APART) * max(1.0, expected.abs().max().item()):
            raise AutopeftError(
                f"'{artifact}' cannot be exported{' merged' * merge}: loaded again, its logits differ by {apart:.2g} "
                "from those of the trained method."
            )
    return to


def _load(
    folder: Path, model: str | None, device: str | torch.device | None, strict: bool, trust_remote_code: bool
) -> TrainedModel:
    """Where the backbone holds other weights it is refused, or, if not `strict`, told."""
    description, candidate = read_description(folder)
    merged = description.backbone == MERGED
    if merged and model is not None:
        raise AutopeftError(f"'{folder}' holds the merged model itself; it goes on no other backbone.")
    if merged and not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise AutopeftError(f"'{folder}' holds no merged model: model.safetensors is missing.")
    name = model or (str(folder) if merged else pinned(description.backbone, description.revision))
    backbone = _backbone(folder, name, trust_remote_code)
    if description.fingerprint and description.fingerprint != backbone.fingerprint:
        _tell_of_other_weights(folder, description, model or description.backbone, strict)
    if (task := description.task).on(backbone) != task:
        raise AutopeftError(
            f"'{folder}' was trained on {task.noun}s as another processor makes them than that of '{name}': give the "
            "one that lay beside the backbone then."
        )
    on = _device(device)
    backbone.model.to(on)  # type: ignore[arg-type]
    attached = None if merged else attach_saved(backbone.model, folder, backbone.sites)
    head = _read_head(folder / HEAD, description.task, backbone.sites.width, candidate).to(on)
    return TrainedModel(backbone, attached, head, description)


def read_description(folder: Path) -> tuple[Description, Candidate]:
    """What a folder was trained on, and the candidate. Raises AutopeftError for a folder of others."""
    file = folder / DESCRIPTION
    plain = read_json(file, f"'{folder}' is no folder of a trained method")
    try:
        said = dict(plain if plain.get("version", 1) != 1 else _of_version_1(plain))
        if said.pop("version", 1) not in (1, VERSION):
            raise ValueError("a later version of autopeft wrote it")
        candidate = Candidate.from_dict(said.pop("candidate"))
        description = Description(**{**said, "task": read_task(said["task"])})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, AutopeftError) as error:
        raise AutopeftError(f"'{file}' is damaged: {error}.") from error
    for name, right, value in (
        ("backbone", _is_name(description.backbone), description.backbone),
        (
            "max_length",
            type(description.max_length) is int and 0 < description.max_length < 2**31,
            description.max_length,
        ),
        ("fingerprint", isinstance(description.fingerprint, str), description.fingerprint),
        ("revision", description.revision is None or _is_name(description.revision), description.revision),
        ("precision", description.precision in PRECISIONS, description.precision),
        ("pooling", candidate.training.pooling in POOLINGS, candidate.training.pooling),
    ):
        if not right:
            raise AutopeftError(f"'{file}' is damaged: {name} is {brief(value)}.")
    return description, candidate


def _of_version_1(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """What earlier versions wrote of text classification, as it is written now."""
    said = plain["description"]
    task = {"name": said["task"], "text": said["text"], "classes": said["labels"]}
    return {**said, "task": task, "candidate": plain["candidate"]}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) < 1000 and printable(value, "") == value


def _backbone(folder: Path, name: str, trust_remote_code: bool) -> Backbone:
    try:
        return load_backbone(name, trust_remote_code=trust_remote_code)
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
        return torch.empty(0, device=wanted or "cpu").device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise AutopeftError(f"{brief(wanted)} is no device of this machine: {str(error).splitlines()[0]}.") from error


def _read_head(file: Path, task: Task, width: int, candidate: Candidate) -> nn.Module:
    """The head gets memory only when the file is known to hold one of its shape."""
    with torch.device("meta"):
        head: nn.Module = task.new_head(width, candidate.training)
    values = read_tensors(file)
    copy_into(head.state_dict(), values, file)
    head.to_empty(device="cpu")
    copy_into(head.state_dict(), values, file)
    return head


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `folder` when all went well; else nothing of it is left."""
    there = folder.exists()
    # An empty folder stays the one that it is: it may be somebody's working directory, or another disk.
    temporary = folder / _WRITING if there else beside(folder)
    with _told_plainly(folder):
        try:
            temporary.mkdir(parents=True)
        except FileExistsError as error:
            raise AutopeftError(
                f"'{temporary}' is there: another export writes to '{folder}', or was killed; then remove it."
            ) from error
    try:
        yield temporary
        with _told_plainly(folder):
            if not there:
                temporary.replace(folder)
            for each in temporary.iterdir() if there else ():
                each.replace(folder / each.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _told_plainly(folder: Path) -> Iterator[None]:
    """Libraries tell of a full disk by errors of their own, tokenizers by a plain Exception."""
    try:
        yield
    except AutopeftError:
        raise
    except Exception as error:
        raise AutopeftError(f"'{folder}' cannot be written: {error}.") from error


def _copy(artifact: Path, to: Path) -> None:
    """Files of the folder only: a link that leads out of it would copy what nobody means to give away."""
    for path in artifact.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(artifact.resolve()):
            raise AutopeftError(f"'{path}' leads out of the folder; only files of its own are exported.")
        if not path.is_dir() and not path.is_file():
            raise AutopeftError(f"'{path}' is no file; only files are exported.")
    shutil.copytree(artifact, to, dirs_exist_ok=True)


def _write_merged(to: Path, trained: TrainedModel, candidate: Candidate) -> None:
    assert trained.attached is not None
    plain = trained.attached.merge()
    description = replace(trained.description, backbone=MERGED, fingerprint="", revision=None)
    with quietly():
        plain.save_pretrained(to)  # type: ignore[operator]
        trained.backbone.processor.save_pretrained(to)
        _write(to, trained.model.head, description, candidate)


def _write(folder: Path, head: nn.Module, description: Description, candidate: Candidate) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}, folder / HEAD)
    _describe(folder, description, candidate)


def _describe(folder: Path, description: Description, candidate: Candidate) -> None:
    said = {each.name: getattr(description, each.name) for each in fields(description)}
    plain = {"version": VERSION, **said, "task": description.task.to_dict(), "candidate": candidate.to_dict()}
    (folder / DESCRIPTION).write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
