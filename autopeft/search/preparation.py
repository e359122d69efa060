"""Everything that must be known and made before the first trial: data, space, budget, baselines, and what workers need.

The backbone is loaded here once, for its tokenizer and its frozen features, and let go: workers load their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from autopeft.artifacts import Description
from autopeft.backbone.load import Backbone, load_backbone, load_skeleton
from autopeft.backbone.source import pinned
from autopeft.costs.predict import Predictor
from autopeft.data.store import MULTIPLE, Dataset, open_split
from autopeft.methods.saved import trust
from autopeft.plan import Plan
from autopeft.search.feasible import require_something_fits
from autopeft.search.prepared_data import marked
from autopeft.search.recalling import space_again
from autopeft.search.sameness import BACKBONE, REVISION, as_known, require_same_backbone, require_same_data
from autopeft.search.worker import Job
from autopeft.space.candidate import Candidate, Training
from autopeft.space.space import Space, load_space
from autopeft.tasks.base import Task
from autopeft.tasks.metrics import Metric
from autopeft.tasks.understanding import TaskData, encoded, understand
from autopeft.training.evaluation import constant_statistics
from autopeft.training.probe import fit_probes
from autopeft.trial import Baselines, Costs, SearchRecord

_VERSIONED = ("autopeft", "torch", "transformers", "peft", "optuna", "ray")


@dataclass(frozen=True)
class Prepared:
    """What a search stands on."""

    space: Space
    """Fitted to the backbone."""
    limits: Mapping[str, float]
    """The budget's limits on costs, in numbers."""
    predict: Callable[[Candidate], Costs]
    baselines: Baselines
    job: Job
    facts: Mapping[str, Any]
    """For the record: versions, data as understood, sizes."""


def prepare(
    plan: Plan, folder: Path, weights: str, say: Callable[[str], None], known: SearchRecord | None = None
) -> Prepared:
    """Prepares a search whose files lie in `folder`, its weights in the folder `weights` therein; tells each long step.

    Raises AutopeftError; also where the data or the backbone are not those of the search that is `known` already.
    """
    space = space_again(plan) if known else load_space(plan.space).only(plan.methods)
    trust(space.cards)
    say("reading the data")
    data = understand(plan.data, plan.given, plan.task, plan.seed)
    if known:
        require_same_data(known, data.fingerprint)
    say("loading the backbone")
    backbone = load_backbone(as_known(known) if known else plan.model, trust_remote_code=plan.trust_remote_code)
    if known:
        require_same_backbone(known, backbone, say)
    model = pinned(plan.model, backbone.revision)
    max_length, data = _within_positions(plan.max_length, backbone, data)
    say("tokenizing")
    prepared = folder / "data"
    tokenized = marked(lambda: encoded(data, backbone, max_length, prepared), weights)
    train, validation = (open_split(tokenized, name) for name in ("train", "validation"))
    lengths = [_rounded_up(int(split.lengths.max())) for split in (train, validation)]
    data = _with_losses(data, {"train": train, "validation": validation})
    length, longest = min(max_length, lengths[0]), min(max_length, max(lengths))
    say("fitting the space to backbone and budget")
    skeleton = load_skeleton(model, trust_remote_code=plan.trust_remote_code)
    predictor = Predictor(skeleton, space.cards, data.task, length, longest=longest)
    space = space.fitted(predictor.refusal, predictor.unfitness)
    limits = plan.budget.resolved(backbone.parameters).limits()
    require_something_fits(space, limits, predictor.predict, predictor.counts, f"the space '{space.name}'")
    say("measuring the linear probe")
    probes = prepared / f"probe-{tokenized.name.removeprefix('tokens-')}-{backbone.fingerprint[:16]}"
    marked(lambda: _made(probes), weights)
    baselines = _baselines(data.task, data.task.metric("auto"), backbone, train, validation, probes, space)
    description = Description(
        plan.model,
        data.task,
        max_length,
        backbone.fingerprint,
        backbone.revision,
    )
    job = Job(
        model,
        description,
        tokenized,
        probes,
        folder / weights,
        space.cards,
        data.test_fingerprint,
        plan.trust_remote_code,
    )
    return Prepared(space, limits, predictor.predict, baselines, job, _facts(data, backbone, length, space))


def _within_positions(max_length: int, backbone: Backbone, data: TaskData) -> tuple[int, TaskData]:
    """The longest text that plan and model allow; the data's notes say where that is less than was asked for."""
    positions = backbone.positions
    if positions is None or max_length <= positions:
        return max_length, data
    note = f"texts are cut after {positions:,} tokens, not {max_length:,}: the model has no more positions"
    return positions, replace(data, notes=(*data.notes, note))


def _with_losses(data: TaskData, read: Mapping[str, Dataset]) -> TaskData:
    """The data's notes say what of it the model does not get to read."""
    told = {name: data.task.lost(data.splits[name], split) for name, split in read.items()}
    return replace(data, notes=(*data.notes, *(f"{name}: {note}" for name, note in told.items() if note)))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _rounded_up(length: int) -> int:
    return -(-length // MULTIPLE) * MULTIPLE


def _baselines(
    task: Task, metric: Metric, backbone: Backbone, train: Dataset, validation: Dataset, probes: Path, space: Space
) -> Baselines:
    """The reference points. A probe is kept for every pooling of the space, because heads start from it."""
    pooling = space.training.get("pooling")
    poolings = [str(value) for value in pooling.values or (pooling.default,)] if pooling else [Training.pooling]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone.model.to(device)  # type: ignore[arg-type]
    fitted = fit_probes(backbone.model, backbone.sites.width, task, train, validation, poolings, probes)
    constant = constant_statistics(task, train, validation, backbone.sites.width)
    return Baselines(metric.of(constant), max(metric.of(probe.statistics) for probe in fitted.values()))


def _facts(data: TaskData, backbone: Backbone, length: int, space: Space) -> Mapping[str, Any]:
    return {
        "data": list(data.described()),
        "data_fingerprint": data.fingerprint,
        "task": data.task.to_dict(),
        "labels": list(getattr(data.task, "classes", ())),
        "train_rows": len(data.splits["train"]),
        "validation_rows": len(data.splits["validation"]),
        "backbone": backbone.name,
        "backbone_parameters": backbone.parameters,
        BACKBONE: backbone.fingerprint,
        REVISION: backbone.revision,
        "batch_length": length,
        "refused": dict(space.refused),
        "methods": list(space.methods),
        "hybrids": list(space.hybrids),
        "pairs": sorted(sorted(pair) for pair in space.pairs or ()),
        "versions": {name: version(name) for name in _VERSIONED},
    }
