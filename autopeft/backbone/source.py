"""Where a model lies: a local folder, or a name of the hub, with `@revision` where one is wanted.

What is no model, or not whole, is answered here in a sentence, before transformers reads it: an adapter, a Git LFS
pointer in place of a file, an index that names missing files, or files outside the folder.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import is_offline_mode
from transformers import dynamic_module_utils
from transformers.utils.hub import cached_file, get_checkpoint_shard_files
from transformers.utils.peft_utils import find_adapter_config_file

from autopeft.backbone.place import require_model
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_POINTER = b"version https://git-lfs.github.com/spec/"
_SNAPSHOT = re.compile(r"/snapshots/([0-9a-f]{40})/")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where transformers looks for weights, in this order."""


@dataclass(frozen=True)
class Source:
    """A model that may be had."""

    name: str
    """As it was given."""
    where: str
    """A folder, a `config.json`, or a name of the hub without its revision."""
    revision: str | None
    """What is loaded of the hub: the commit where it is known, so that all files are of one; None for a folder."""
    commit: str | None
    """Of the hub; None for a folder, and where it is not known."""
    local: bool


def source_of(name: str) -> Source:
    """Where a model lies. Raises AutopeftError."""
    path = require_model(name)
    if path is not None:
        if path.is_dir():
            _require_no_adapter(name, str(path))
        return Source(name, str(path), None, None, local=True)
    where, _, wanted = name.partition("@")
    commit = _commit(where, wanted or None)
    revision = commit or wanted or None
    _require_no_adapter(name, where, revision)
    return Source(name, where, revision, commit, local=False)


def require_files(source: Source) -> None:
    """Raises AutopeftError where files of the model's weights are not there, or are not what their names say."""
    folder = Path(source.where)
    if not source.local:
        return
    for name in _files(source.name, folder):
        if not (folder / name).is_file():
            raise AutopeftError(f"the weights of '{source.name}' are incomplete: the file '{name}' is missing.")
        if _is_pointer(folder / name):
            raise AutopeftError(f"the model in '{source.name}' cannot be loaded: {_pulled(name)}.")


def why_not(source: Source, error: Exception) -> str:
    """What to answer where transformers failed."""
    name, reason = source.name, (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
    if "trust_remote_code" in str(error):
        return (
            f"'{name}' cannot be loaded without program code that comes with it, which may do anything on this "
            "machine. If you have read that code and trust it, say so: `trust_remote_code: true` in the plan, or "
            "--trust-remote-code."
        )
    if source.local:
        folder = Path(source.where)
        pointers = sorted(file.name for file in folder.iterdir() if _is_pointer(file)) if folder.is_dir() else []
        return f"the model in '{name}' cannot be loaded: {_pulled(pointers[0]) if pointers else reason}."
    offline = " HF_HUB_OFFLINE=1 is set: unset it to ask the hub." if is_offline_mode() else ""
    return f"'{name}' is neither a local folder nor a model that can be had from the hub: {reason}.{offline}"


@contextmanager
def unasked() -> Iterator[None]:
    """Where a library loads models by itself, transformers runs no code that comes with them, and asks nobody."""
    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise AutopeftError(
            "what is to be loaded here comes with program code of its own, which may do anything on this machine, and "
            "which is not run; give a model or tokenizer without such code."
        ) from error
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = before


def generation_file(source: Source) -> Path | None:
    """Where a model says how it generates, its end tokens for instance; None where it says nothing."""
    try:
        file = cached_file(source.where, "generation_config.json", revision=source.revision)
    except (OSError, ValueError):
        return None
    return None if file is None else Path(file)


def _commit(where: str, revision: str | None) -> str | None:
    """The commit that a revision of a hub model is now, read off the place of its configuration in the cache; None
    where it cannot be had, which loading it says better.
    """
    try:
        file = cached_file(where, "config.json", revision=revision)
    except (OSError, ValueError):
        return None
    found = _SNAPSHOT.search(Path(file or "").as_posix())
    return found[1] if found else None


def _require_no_adapter(name: str, where: str, revision: str | None = None) -> None:
    """transformers would load the adapter too, or another model than the one that was asked for."""
    file = find_adapter_config_file(where, revision=revision)
    if file is None:
        return
    try:
        base = json.loads(Path(file).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        base = None
    on = f"the model {brief(base)}" if base else "a model that it does not name"
    raise AutopeftError(
        f"'{name}' holds an adapter (adapter_config.json), trained on {on}; give that model, or merge the "
        "adapter into it and give the result."
    )


def weights_of(source: Source) -> list[str]:
    """The files of a local folder's weights; empty where there are none, or where they are not local."""
    files = _files(source.name, Path(source.where)) if source.local else ()
    return [file for file in files if not file.endswith(".json")]


def safetensors_of(source: Source) -> list[Path]:
    """The files of a model's weights that transformers would read, also of the hub; none where they are of another
    format, or cannot be had, which loading says better.
    """
    if source.local:
        return [Path(source.where, name) for name in weights_of(source) if name.endswith(".safetensors")]
    for name in _WEIGHTS[:2]:
        try:
            file = cached_file(source.where, name, revision=source.revision)
            if file is not None and name.endswith(".json"):
                found, _ = get_checkpoint_shard_files(source.where, file, revision=source.revision)  # type: ignore[no-untyped-call]
                return [*map(Path, found)]
            if file is not None:
                return [Path(file)]
        except (OSError, ValueError):
            continue
    return []


def _files(name: str, folder: Path) -> Iterator[str]:
    """The files of the weights that transformers would read, and of the tokenizer the one that is often large."""
    weights = next((each for each in _WEIGHTS if (folder / each).exists()), None)
    if weights is not None:
        yield weights
        if weights.endswith(".index.json") and not _is_pointer(folder / weights):
            yield from _shards(name, folder / weights)
    if (folder / "tokenizer.json").exists():
        yield "tokenizer.json"


def _shards(name: str, index: Path) -> list[str]:
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        outside = sorted(file for file in files if Path(file).is_absolute() or ".." in Path(file).parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AutopeftError(f"'{index.name}' of '{name}' is damaged: {error or type(error).__name__}.") from error
    if outside:
        raise AutopeftError(f"'{index.name}' of '{name}' names a file outside the folder: {brief(outside[0])}.")
    return sorted(files)


def _is_pointer(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def _pulled(file: str) -> str:
    return f"its '{file}' is a Git LFS pointer, not the file itself: run `git lfs pull` in the folder"
