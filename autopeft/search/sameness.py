"""A search goes on only on what it began with: the same rows, and the same weights of the backbone."""

from collections.abc import Callable
from pathlib import Path

from transformers import __version__ as transformers_version

from autopeft.backbone.load import Backbone
from autopeft.errors import AutopeftError
from autopeft.trial import SearchRecord

BACKBONE = "backbone_fingerprint"
REVISION = "backbone_revision"
"""Names of facts: what tells the backbone's weights apart, and the hub's commit of them."""


def require_same_data(record: SearchRecord, fingerprint: str) -> None:
    """Raises AutopeftError when other rows are learned from now."""
    if record.facts.get("data_fingerprint") != fingerprint:
        raise AutopeftError(
            f"the data in '{record.plan.data}' changed since search '{record.name}' began; start another one."
        )


def require_same_backbone(record: SearchRecord, backbone: Backbone, say: Callable[[str], None]) -> None:
    """Raises AutopeftError when the weights are others now; says so where that cannot be told."""
    known, parameters = record.facts.get(BACKBONE), record.facts.get("backbone_parameters", backbone.parameters)
    changed = parameters != backbone.parameters or known not in (None, backbone.fingerprint)
    before = dict(record.facts.get("versions") or {}).get("transformers")
    if parameters == backbone.parameters and (known is None or (changed and before != transformers_version)):
        why = "it is older than that memory" if known is None else f"transformers was {before} then"
        say(f"going on without knowing whether the backbone is still the one that the search began with: {why}")
    elif changed:
        raise AutopeftError(
            f"the model '{record.plan.model}' is not the one that search '{record.name}' began with: its weights or "
            "its configuration changed; put it back, say by --model where it is now, or start another search."
        )


def pinned(model: str, revision: object) -> str:
    """A model by name and, where the hub's commit is known, at that very one."""
    if not isinstance(revision, str) or "@" in model or Path(model).exists():
        return model
    return f"{model}@{revision}"
