"""Data sets of the hub by their names: `name`, `owner/name`, with `/configuration` and `@revision`.

Nothing of a data set is run: `datasets` reads tables and refuses scripts, and nothing here allows them again.
"""

from collections.abc import Callable, Mapping
from typing import Any

from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief


def load_from_hub(data: str, say: Callable[[str], None]) -> Mapping[str, Any]:
    """The splits. `a/b` is the data set of that name, or else configuration b of data set a. Raises AutopeftError."""
    import datasets

    datasets.disable_progress_bars()
    name, _, revision = data.partition("@")
    owner, _, rest = name.partition("/")
    repository, _, configuration = rest.partition("/")
    if configuration:
        return _load(f"{owner}/{repository}", configuration, revision)
    try:
        return _load(name, None, revision)
    except (FileNotFoundError, ConnectionError):
        if not rest:
            raise
        # There is none of that name, or no network to ask: then the one that an earlier download left may be meant.
        try:
            splits = _load(owner, rest, revision)
        except (FileNotFoundError, ConnectionError):
            pass
        else:
            say(f"'{data}' is read as the configuration '{rest}' of the data set '{owner}'")
            return splits
        raise


def _load(name: str, configuration: str | None, revision: str) -> Mapping[str, Any]:
    import datasets

    try:
        loaded: Mapping[str, Any] = datasets.load_dataset(name, configuration, revision=revision or None)
        return loaded
    except ValueError as error:
        try:
            known = datasets.get_dataset_config_names(name, revision=revision or None)
        except Exception:
            raise error from None
        if configuration is None and len(known) > 1:
            raise AutopeftError(
                f"the data set '{name}' has several configurations: {brief(', '.join(known), 800)}; "
                f"give one, as in '{name}/{known[0]}'."
            ) from error
        if configuration is not None and configuration not in known:
            raise unknown(f"configuration of the data set '{name}':", configuration, known) from error
        raise
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise AutopeftError(
            f"the data set '{name}' is a program, which is not run; the hub may hold its tables: "
            f"try '{name}@refs/convert/parquet'."
        ) from error
