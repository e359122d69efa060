"""What the name of a model means, told without a hub and without transformers, so that slips are answered at once."""

from pathlib import Path

from autopeft.errors import AutopeftError
from autopeft.foreign import brief, printable


def require_model(name: str) -> Path | None:
    """Where a local model lies: a folder, or a `config.json`; None for what only a hub can know.

    Raises AutopeftError for what is neither.
    """
    path = _path(name)
    if name and path.exists():
        _require_regular(name, path)
        # Of an adapter somebody else tells which model it wants.
        if path.is_dir() and not any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise AutopeftError(_no_model(name))
        return path
    where, _, wanted = name.partition("@")
    if path.is_absolute() or name.startswith(".") or where.count("/") > 1:
        raise AutopeftError(
            f"there is no model folder {brief(name, 200)}; give a folder that holds config.json and weights, or a hub "
            "name."
        )
    if not where:
        raise AutopeftError(_no_model(name))
    if wanted and _path(where).exists():
        raise AutopeftError(
            f"{brief(where, 200)} is a folder here, and folders have no revisions: give it without '@', or, for the "
            "model of that name on the hub, go where there is no such folder."
        )
    if printable(name, "") != name:
        raise AutopeftError(f"{brief(name)} is neither a folder nor a name of a model.")
    return None


def pinned(model: str, revision: object) -> str:
    """A model by name and, where the hub's commit is known, at that very one."""
    if not isinstance(revision, str) or "@" in model or _path(model).exists():
        return model
    return f"{model}@{revision}"


def _path(name: str) -> Path:
    """Where a name leads if it is a path. Raises AutopeftError where it cannot even be looked there."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise AutopeftError(f"{brief(name)} is neither a folder nor a name of a model: {reason}.") from error
    return path


def _require_regular(name: str, path: Path) -> None:
    """Pipes and devices may never end; who loads a model opens files of many names, also one folder below."""
    inside = (*path.iterdir(), *path.glob("*/*")) if path.is_dir() else (path,)
    for file in inside:
        if file.exists() and not file.is_file() and not file.is_dir():
            raise AutopeftError(f"the model in '{name}' cannot be loaded: '{file.name}' is no file.")


def _no_model(name: str) -> str:
    return f"'{name}' is no model folder: it holds no config.json."
