"""A search goes on only on what it began with: the same rows, and the same weights of the backbone."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autopeft.backbone.place import pinned
from autopeft.errors import AutopeftError
from autopeft.trial import SearchRecord

if TYPE_CHECKING:
    from autopeft.backbone.load import Backbone

BACKBONE = "backbone_fingerprint"
REVISION = "backbone_revision"
DTYPE = "dtype"
READ = "read"
"""Names of facts: what tells the backbone's weights apart, the hub's commit of them, what they are held in, of earlier
searches fp32, and what tells apart what the model reads of the data.
"""


def fact(record: SearchRecord, name: str) -> Any:
    """What was found out before the first trial. Raises AutopeftError where somebody took it away."""
    if record.facts.get(name) is None:
        raise AutopeftError(
            f"search '{record.name}' does not remember its {name.replace('_', ' ')}; start another one."
        )
    return record.facts[name]


def require_same_data(record: SearchRecord, fingerprint: str) -> None:
    """Raises AutopeftError when other rows are learned from now."""
    if fact(record, "data_fingerprint") != fingerprint:
        raise AutopeftError(
            f"the data in '{record.plan.data}' changed since search '{record.name}' began; start another one."
        )


def require_same_backbone(record: SearchRecord, backbone: "Backbone", say: Callable[[str], None]) -> None:
    """Raises AutopeftError when the weights are others now; says so where that cannot be told."""
    known, parameters = record.facts.get(BACKBONE), record.facts.get("backbone_parameters", backbone.parameters)
    if known is None:
        say("going on without knowing whether the backbone is still the one that the search began with: it is older")
    if parameters != backbone.parameters or known not in (None, backbone.fingerprint):
        raise AutopeftError(
            f"the model '{record.plan.model}' is not the one that search '{record.name}' began with: its weights or "
            "its configuration changed; put it back, say by --model where it is now, or start another search."
        )


def require_same_reading(record: SearchRecord, digest: str) -> None:
    """Raises AutopeftError when the model gets other tokens of the same rows now."""
    if record.facts.get(READ) not in (None, digest):
        raise AutopeftError(
            f"the model reads other tokens of the data now than when search '{record.name}' began: its tokenizer, or "
            "its chat template, changed; put it back, or start another search."
        )


def require_same_direction(record: SearchRecord, higher_is_better: bool) -> None:
    """Raises AutopeftError where the best scores would be the worst ones now."""
    if record.metric.higher_is_better != higher_is_better:
        more = {True: "more", False: "less"}
        raise AutopeftError(
            f"of {record.metric.heading}, {more[higher_is_better]} is better now, but {more[not higher_is_better]} was "
            f"when search '{record.name}' began; put the metric back as it was, or begin another search."
        )


def require_trusted(record: SearchRecord, trusted: bool, space: str | None) -> None:
    """A database may come from a stranger: what it says of code, of the model's or of cards', is said once more by
    whoever runs it. Raises AutopeftError.
    """
    if space is None and Path(record.plan.space).is_dir():
        from autopeft.methods.saved import require_trusted_cards

        require_trusted_cards(Path(record.plan.space))
    if record.plan.trust_remote_code and not trusted:
        raise AutopeftError(
            f"search '{record.name}' runs program code that comes with its model '{record.plan.model}', which may do "
            "anything on this machine; if you trust it, say --trust-remote-code here, too."
        )


def as_known(record: SearchRecord) -> str:
    """The model of a search at the very commit of the hub that it began with, where that is known."""
    same_place = record.facts.get("backbone") == record.plan.model
    return pinned(record.plan.model, record.facts.get(REVISION) if same_place else None)
