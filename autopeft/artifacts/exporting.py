"""Trained methods to give away: copied, or merged into the backbone; loaded again and compared before they appear."""

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from autopeft.artifacts.as_lora import as_lora
from autopeft.artifacts.card import CARD, Facts, card
from autopeft.artifacts.description import MERGED, describe, read_description
from autopeft.artifacts.loading import load_trained
from autopeft.artifacts.onnx import validation_inputs, write_onnx
from autopeft.artifacts.reading import reading
from autopeft.artifacts.saving import save_artifact, write_head
from autopeft.artifacts.trained import TrainedModel
from autopeft.artifacts.unquantised import again
from autopeft.artifacts.usage import Form
from autopeft.artifacts.whole import apart, compared, labelled, place_in_whole, random_parts, read_whole, whole
from autopeft.backbone.held import hold, name_of
from autopeft.backbone.load import Backbone, quietly
from autopeft.backbone.source import generation_file, source_of
from autopeft.errors import AutopeftError, require_extra
from autopeft.files import beside
from autopeft.methods.attached import Attached
from autopeft.methods.hooked import read_tensors
from autopeft.methods.peft_config import WRAPPED
from autopeft.methods.saved import read_json
from autopeft.tasks.texts import IDS
from autopeft.training.precision import FLOAT32, held_as, packed_as
from autopeft.trial import Trial

_WRITING = ".autopeft.writing"
_APART, _APART_MERGED, _APART_IN_HALF = 1e-4, 1e-3, 5e-2
"""By how much an exported model's logits may differ in fp32, as a fraction of the largest of them, or of 1: merged, a
model of many layers is rounded in other places; and written as it was held in the search, in half of fp32, all is.
"""


def export(
    artifact: str | Path,
    to: str | Path,
    merge: bool = False,
    model: str | None = None,
    *,
    onnx: bool = False,
    lora: bool = False,
    trial: Trial | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Copies a trained method to a new folder; with `merge` the backbone with the method folded into its weights; with
    `onnx` one ONNX file; with `lora` a LoRA that stands for it. Each comes with a model card, which tells of `trial`,
    too.

    `model` is where the backbone lies now, if elsewhere: the new folder knows it there. Where a class of transformers
    computes what merged backbone and head do, a merged folder is of that class; else transformers' `AutoModel` loads
    it, and no class with a head. What was written is loaded again, and its logits are compared with those of the
    trained method; the folder appears whole or not at all.

    Raises AutopeftError when the target holds something, cannot be written, or answers otherwise, CannotMerge when the
    method's mathematics do not allow it.
    """
    artifact, to = Path(artifact), Path(to)
    if onnx and merge:
        raise AutopeftError("give merge or onnx, not both: in an ONNX file all is merged that merges.")
    if lora and (merge or onnx):
        raise AutopeftError("give one of merge, onnx and a LoRA: what is merged needs no LoRA.")
    if onnx:
        require_extra("onnx")
    if to.exists() and (not to.is_dir() or {each.name for each in to.iterdir()} - {_WRITING}):
        raise AutopeftError(f"'{to}' exists and is not an empty folder; give another one.")
    description, candidate = read_description(artifact)
    if onnx and description.task.causal:
        raise AutopeftError(
            "a language model goes into no ONNX file here: give --merge, and transformers loads it whole."
        )
    if merge and description.backbone == MERGED:
        raise AutopeftError(f"'{artifact}' is merged already.")
    if model == description.backbone:
        model = None
    with _appearing(to) as temporary:
        trained = load_trained(artifact, model, None, True, trust_remote_code, FLOAT32)
        made_of = candidate
        if lora:
            trained, candidate = as_lora(trained, candidate)
        expected = _logits(trained)
        description = replace(description, backbone=model or description.backbone)
        written: TrainedModel | None = None
        facts = Facts(description, candidate, Form.ONNX if onnx else Form.METHOD, trial=trial)
        with _told_plainly(to):
            if onnx:
                written = _write_onnx(temporary, trained, trial)
                facts = replace(facts, reading=reading(written, _processor(written)))
            elif merge or description.backbone == MERGED:
                facts = _write_merged(temporary, trained, facts)
            elif lora:
                assert trained.attached is not None
                save_artifact(temporary, trained.attached, trained.model.head, description, candidate)
                facts = _described(temporary, trained, replace(facts, again=again(trained, trial), made_of=made_of))
            else:
                _copy(artifact, temporary)
                facts = _described(temporary, trained, facts)
            (temporary / CARD).write_text(card(facts), encoding="utf-8")
            _readable(temporary)
        del trained
        written = written or load_trained(temporary, None, None, True, trust_remote_code, FLOAT32)
        pairs = [(_logits(written), expected)]
        if facts.form is Form.WHOLE:
            pairs += compared(read_whole(temporary, written), written, len(expected))
        merged = _APART_MERGED if description.dtype == FLOAT32 else _APART_IN_HALF
        most = _APART if facts.form in (Form.METHOD, Form.PEFT, Form.ONNX) else merged
        for found, right in pairs:
            if (by := apart(found, right, most)) is not None:
                raise AutopeftError(
                    f"'{artifact}' cannot be exported{' merged' * merge}: loaded again, its logits differ by "
                    f"{by:.2g} from those of the trained method."
                )
    return to


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


def _readable(folder: Path) -> None:
    """Weights may be read by whoever may read the model card: safetensors keeps its files to oneself."""
    mode = (folder / CARD).stat().st_mode
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)


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


def _described(to: Path, trained: TrainedModel, facts: Facts) -> Facts:
    """What others need beside a trained method in a folder."""
    describe(to, facts.description, facts.candidate)
    # transformers, which would put a method of peft's on a model with a head of random values, looks for a model here.
    _save_config(to, trained.backbone.model.config, trained)
    if trained.task.causal:
        _write_processor(to, trained)
    config = to / "adapter_config.json"
    if not config.is_file():
        return facts
    plain = read_json(config, f"'{to}' is damaged")
    # By the task's type peft's own classes with heads refuse it, too, where the head is not the model's.
    plain["task_type"] = trained.task.peft_type
    if (inside := place_in_whole(trained.task, trained.backbone.model.config)) is not None:
        # They load the backbone by themselves, from where it lies now.
        source = source_of(trained.backbone.name)
        plain |= {"base_model_name_or_path": source.where, "revision": source.revision}
        weights = to / "adapter_model.safetensors"
        renamed = {each.replace(WRAPPED, WRAPPED + inside, 1): tensor for each, tensor in read_tensors(weights).items()}
        save_file({each: tensor.clone() for each, tensor in renamed.items()}, weights, {"format": "pt"})
    config.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    return replace(facts, form=Form.PEFT)


def _write_merged(to: Path, trained: TrainedModel, facts: Facts) -> Facts:
    merged = _merged(trained)
    plain, task = merged.backbone.model, merged.task
    told = reading(merged, _processor(merged))
    # Of answers that are more than its outputs, no pipeline knows how they are made.
    model = whole(merged) if told.numbers else None
    held = held_as(merged.description.dtype)
    hold(plain, held)
    if (output := merged.backbone.output) is not None:
        hold(output.linear, held)
    if packed_as(trained.description.dtype):
        judged_again = again(TrainedModel(merged.backbone, None, merged.model.head, merged.description), facts.trial)
        facts = replace(facts, again=judged_again)
    with quietly():
        if model is not None:
            model.save_pretrained(to)
        else:
            # What transformers would make up is there, of no shape that any class has: it says so instead.
            made_up = {name: torch.zeros(0) for name in random_parts(task, plain.config)}
            plain.config = labelled(plain.config, task)
            plain.save_pretrained(to, state_dict={**plain.state_dict(), **made_up})
        _write_processor(to, merged, trained.backbone.name)
        write_head(to, merged.model.head, merged.description, facts.candidate)
    if model is None:
        return replace(facts, form=Form.BACKBONE)
    return replace(facts, form=Form.WHOLE, kind=type(model).__name__, reading=told)


def _write_onnx(to: Path, trained: TrainedModel, trial: Trial | None) -> TrainedModel:
    """What the file answers like."""
    if trained.attached is None or not trained.attached.remaining:
        trained = _merged(trained)
    plan = trial.search.plan if trial and trial.search else None
    write_onnx(to, trained, (validation_inputs(plan) if plan else ()) or trained.task.samples(trained.backbone))
    _save_config(to, trained.backbone.model.config, trained)
    with quietly():
        _processor(trained).save_pretrained(to)
    return trained


def _merged(trained: TrainedModel) -> TrainedModel:
    """The same with the method in the backbone's weights. Raises CannotMerge."""
    if trained.attached is None:
        return trained
    _merge(trained.backbone, trained.attached)
    # Matrices that were quantised in training are not in what is merged.
    held = name_of(held_as(trained.description.dtype))
    description = replace(trained.description, backbone=MERGED, fingerprint="", revision=None, dtype=held)
    return TrainedModel(trained.backbone, None, trained.model.head, description)


def _merge(backbone: Backbone, attached: Attached) -> None:
    """What makes logits keeps its weights where the method has moved only the embedding that they are tied to: each
    place has weights of its own from then on.
    """
    if (output := backbone.output) is None:
        attached.merge()
        return
    before = output.weight.detach().clone()
    attached.merge()
    if torch.equal(output.weight, before):
        return
    moved = output.weight
    for module in backbone.model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight is moved:
                module.register_parameter(name, nn.Parameter(moved.detach().clone(), requires_grad=False))
    output.linear.weight = nn.Parameter(before, requires_grad=False)
    backbone.model.config.tie_word_embeddings = False


def _save_config(to: Path, config: Any, trained: TrainedModel) -> None:
    named = labelled(config, trained.task)
    named.architectures = [type(trained.backbone.model).__name__]
    named.save_pretrained(to)


def _write_processor(to: Path, trained: TrainedModel, backbone: str = "") -> None:
    """Tokenizer and chat template, or image processor; of a language model how it generates, too."""
    with quietly():
        _processor(trained).save_pretrained(to)
    if trained.task.causal and (file := generation_file(source_of(backbone or trained.backbone.name))) is not None:
        shutil.copyfile(file, to / file.name)


def _processor(trained: TrainedModel) -> Any:
    """The processor as others are to use it: it cuts and pads texts as they were cut and padded in training."""
    processor: Any = copy.deepcopy(trained.backbone.processor)
    if trained.task.reads == IDS:
        processor.model_max_length = trained.longest
        processor.padding_side = "right"
    trained.task.equip(processor)
    return processor


def _logits(trained: TrainedModel) -> Tensor:
    """Of some inputs, always the same."""
    samples = trained.task.samples(trained.backbone)
    ((output, _, _),) = trained.outputs(samples, len(samples), FLOAT32)
    return output
