"""Trained methods to give away: copied, or merged into the backbone; loaded again and compared before they appear."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from autopeft.artifacts.description import MERGED, describe, read_description
from autopeft.artifacts.loading import load_trained
from autopeft.artifacts.saving import write_head
from autopeft.artifacts.trained import TrainedModel
from autopeft.backbone.load import quietly
from autopeft.errors import AutopeftError
from autopeft.files import beside
from autopeft.space.candidate import Candidate
from autopeft.training.precision import FLOAT32

_WRITING = ".autopeft.writing"
_APART, _APART_MERGED = 1e-4, 1e-3
"""By how much an exported model's logits may differ in fp32, as a fraction of the largest of them, or of 1: merged, a
model of many layers is rounded in other places.
"""


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
        trained = load_trained(artifact, model, None, True, trust_remote_code)
        samples = description.task.samples(trained.backbone)
        ((expected, _, _),) = trained.outputs(samples, len(samples), FLOAT32)
        with _told_plainly(to):
            if merge:
                _write_merged(temporary, trained, candidate)
            else:
                _copy(artifact, temporary)
                describe(temporary, replace(description, backbone=model or description.backbone), candidate)
        del trained
        again = load_trained(temporary, None, None, True, trust_remote_code)
        ((found, _, _),) = again.outputs(samples, len(samples), FLOAT32)
        apart = (found - expected).abs().max().item()
        if not apart <= (_APART_MERGED if merge else _APART) * max(1.0, expected.abs().max().item()):
            raise AutopeftError(
                f"'{artifact}' cannot be exported{' merged' * merge}: loaded again, its logits differ by {apart:.2g} "
                "from those of the trained method."
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
        write_head(to, trained.model.head, description, candidate)
