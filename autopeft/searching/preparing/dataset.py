"""The first of three preparations: the data as the task understands it and as the model reads it.

The backbone is loaded here once, for its processor and its frozen features, and let go: workers load their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from autopeft.backbone.apart import why_not_apart
from autopeft.backbone.held import name_of
from autopeft.backbone.load import Backbone, load_backbone
from autopeft.backbone.place import pinned
from autopeft.data.store import Dataset, open_split, padded
from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.searching.preparing.shared import marked
from autopeft.searching.sameness import (
    DTYPE,
    as_known,
    require_same_backbone,
    require_same_data,
    require_same_reading,
)
from autopeft.tasks.understanding import UNPACKED, TaskData, encoded, understand
from autopeft.training.precision import FLOAT32, device_here, held_as, is_emulated, packed_as
from autopeft.trial import SearchRecord


@dataclass(frozen=True)
class PreparedDataset:
    """What is learned from, and the model that reads it."""

    data: TaskData
    backbone: Backbone
    model: str
    """Where workers find it, at its very revision."""
    max_length: int
    """The longest text that plan and model allow."""
    encoded: Path
    """Folder of the splits as the model reads them."""
    length: int
    """Of the longest training row."""
    longest: int
    """Of the longest row of training and validation."""
    read: str
    """Tells it apart from what a model reads of the same rows by another tokenizer."""

    @property
    def probes(self) -> Path:
        """Folder for the linear probes of these rows on this backbone."""
        rows = self.encoded.name.removeprefix("tokens-")
        held = self.backbone.holding
        inexact = "" if held == FLOAT32 else f"-{held}"
        return self.encoded.parent / f"probe-{rows}-{self.backbone.fingerprint[:16]}{inexact}"


def prepare_dataset(
    plan: Plan, folder: Path, weights: str, say: Callable[[str], None], known: SearchRecord | None
) -> PreparedDataset:
    """Raises AutopeftError; also where data or backbone are not those of the search that is `known` already."""
    say("reading the data")
    data = understand(plan.data, plan.given, plan.task, plan.seed, plan.separator, plan.loss_on)
    if known:
        require_same_data(known, data.fingerprint)
    say("loading the backbone")
    held, device = known.facts.get(DTYPE, FLOAT32) if known else plan.dtype, device_here()
    dtype = held_as(held, device)
    if is_emulated(dtype, device):
        say(f"this processor does not compute in {name_of(dtype)} by itself: --dtype float32 is several times as fast")
    backbone = load_backbone(
        as_known(known) if known else plan.model,
        dtype,
        quantised=packed_as(held),
        trust_remote_code=plan.trust_remote_code,
        causal=data.task.causal,
        copies=None if device.type == "cuda" else folder / "data",
    )
    if backbone.copy is not None:
        own = backbone.copy.parent
        marked(lambda: own, weights)
    if known:
        require_same_backbone(known, backbone, say)
    data = replace(data, task=data.task.on(backbone))
    if plan.packing:
        _require_packable(data, backbone)
    max_length, data = _within_positions(plan.max_length, backbone, data)
    say(f"encoding the {data.task.noun}s")
    made = marked(lambda: encoded(data, backbone, max_length, folder / "data", packing=plan.packing), weights)
    splits = {name: open_split(made, name) for name in ("train", "validation")}
    read = " ".join(split.digest for split in splits.values())
    if known:
        require_same_reading(known, read)
    alone = {**splits, "train": open_split(made, UNPACKED)} if plan.packing else splits
    shown = [*data.task.shown(data.splits["train"], alone["train"], backbone)]
    if plan.packing:
        shown.append(_packed(splits["train"], len(alone["train"])))
    data = _with_losses(replace(data, notes=(*data.notes, *shown)), alone)
    data = replace(data, task=data.task.seen([*splits.values()]))
    lengths = [padded(int(split.lengths.max())) for split in splits.values()]
    length, longest = min(max_length, lengths[0]), min(max_length, max(lengths))
    model = pinned(plan.model, backbone.revision)
    return PreparedDataset(data, backbone, model, max_length, made, length, longest, read)


def _require_packable(data: TaskData, backbone: Backbone) -> None:
    """Raises AutopeftError where several examples in one row would not be kept apart."""
    if not data.task.causal:
        raise AutopeftError(
            f"packing puts several examples into one row, and {data.task.name} needs one for each {data.task.noun}; "
            "leave it out."
        )
    if why_not := why_not_apart(backbone.model):
        raise AutopeftError(
            f"'{backbone.name}' does not keep several examples of one row apart: {why_not}; leave packing out."
        )


def _packed(train: Dataset, examples: int) -> str:
    filled = train.lengths.sum() / (len(train) * train.longest)
    return (
        f"packed: {examples:,} examples into {len(train):,} rows of up to {train.longest:,} tokens (--max-length), "
        f"{filled:.0%} of them filled"
    )


def _within_positions(asked: int | None, backbone: Backbone, data: TaskData) -> tuple[int, TaskData]:
    """The longest text that plan and model allow; the data's notes say where that is less than was asked for."""
    positions, max_length = backbone.positions, asked or data.task.longest
    if positions is None or max_length <= positions:
        return max_length, data
    if asked is None:
        return positions, data
    note = f"texts are cut after {positions:,} tokens, not {max_length:,}: the model has no more positions"
    return positions, replace(data, notes=(*data.notes, note))


def _with_losses(data: TaskData, read: Mapping[str, Dataset]) -> TaskData:
    """The data's notes say what of it the model does not get to read."""
    told = {name: data.task.lost(data.splits[name], split) for name, split in read.items()}
    return replace(data, notes=(*data.notes, *(f"{name}: {note}" for name, note in told.items() if note)))
