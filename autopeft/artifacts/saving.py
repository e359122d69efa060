"""Trained methods as folders that appear whole or not at all."""

import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from autopeft.artifacts.description import DESCRIPTION, Description, describe
from autopeft.errors import AutopeftError
from autopeft.files import beside
from autopeft.methods.attached import Attached
from autopeft.space.candidate import Candidate

HEAD = "head.safetensors"


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
        write_head(temporary, head, description, candidate)
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


def write_head(folder: Path, head: nn.Module, description: Description, candidate: Candidate) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}, folder / HEAD)
    describe(folder, description, candidate)
