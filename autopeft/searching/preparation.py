"""Everything that must be known and made before the first trial, in three preparations: dataset, space, baselines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autopeft.artifacts import Description
from autopeft.costs.seconds import Seconds
from autopeft.data.store import MASK
from autopeft.objectives import Objective, score_of
from autopeft.plan import Plan
from autopeft.searching.preparing.asked import Asked, asked, writing_of
from autopeft.searching.preparing.baselines import prepare_baselines
from autopeft.searching.preparing.dataset import PreparedDataset, prepare_dataset
from autopeft.searching.preparing.in_context import Prompting
from autopeft.searching.preparing.space import PreparedSpace, drawn_by, prepare_space
from autopeft.searching.sameness import BACKBONE, DTYPE, REVISION, require_same_direction
from autopeft.searching.worker import Job
from autopeft.space.candidate import Candidate
from autopeft.space.space import AUTO, Space
from autopeft.tasks.metrics import Metric
from autopeft.tasks.own_metric import OwnMetric, metric_of
from autopeft.tasks.written import OwnWritten, WrittenMetric
from autopeft.training.asking import AT_RUNGS
from autopeft.trial import ASKED, ASKED_AT_RUNGS, Baseline, Costs, SearchRecord

_VERSIONED = ("autopeft", "torch", "transformers", "peft", "optuna", "ray")


@dataclass(frozen=True)
class Prepared:
    """What a search stands on."""

    space: Space
    """Fitted to the backbone."""
    limits: Mapping[str, float]
    """The budget's limits on costs, in numbers."""
    predict: Callable[[Candidate], Costs]
    baselines: Mapping[str, Baseline]
    job: Job
    facts: Mapping[str, Any]
    """For the record: versions, data as understood, sizes."""
    metric: Objective
    """What scores are."""
    plan: Plan
    """With the space that the task names, where it named none."""
    as_known: bool
    """Whether the space is the one that the search had in earlier sittings."""
    seconds: Seconds
    """Predicts how long trainings take, and learns it from trials."""
    prompting: Prompting
    """Measures the baselines that come last."""


def prepare(
    plan: Plan,
    folder: Path,
    weights: str,
    say: Callable[[str], None],
    known: SearchRecord | None = None,
    threads: int | None = None,
) -> Prepared:
    """Prepares a search whose files lie in `folder`, its weights in the folder `weights` therein; tells each long step.
    `threads` are those that a worker computes with on a CPU, where they are known.

    Raises AutopeftError; also where the data or the backbone are not those of the search that is `known` already.
    """
    dataset = prepare_dataset(plan, folder, weights, say, known)
    data, backbone = dataset.data, dataset.backbone
    if plan.space == AUTO:
        plan = replace(plan, space=data.task.space)
    space = drawn_by(plan, known)
    metric = metric_of(data.task, plan.metric)
    if known:
        require_same_direction(known, metric.higher_is_better)
    writing = writing_of(dataset) if isinstance(metric, WrittenMetric) else None
    fitted = prepare_space(space, plan, dataset, say, known, threads, writing)
    some, count = _asked(dataset, fitted, metric, say, known)
    fitted.seconds.asks(some, count)
    baselines = prepare_baselines(dataset, fitted.space, metric, weights, say, known, count)
    own = metric if isinstance(metric, OwnMetric | OwnWritten) else None
    description = Description(
        plan.model,
        data.task,
        dataset.max_length,
        backbone.fingerprint,
        backbone.revision,
        metric=own.shown if own else "",
        dtype=backbone.holding,
    )
    understood = [*data.described()]
    if own:
        understood.append(f"judged by {own.shown}: {'more' if own.higher_is_better else 'less'} is better")
    job = Job(
        dataset.model,
        description,
        dataset.encoded,
        dataset.probes,
        folder / weights,
        fitted.space.cards,
        data.test_fingerprint,
        plan.trust_remote_code,
        metric.name,
        own,
        count,
        some,
        writing,
    )
    facts = {
        **_facts(dataset, fitted.space),
        "data": understood,
        **({ASKED: count, ASKED_AT_RUNGS: some} if count else {}),
    }
    drawn = ("methods", "hybrids", "pairs", "training", "versions")
    as_known = known is not None and all(known.facts.get(name) == facts[name] for name in drawn)
    score = score_of(metric.name, metric.heading, metric.higher_is_better, metric.ideal)
    prompting = Prompting(dataset, metric, plan.seed, count)
    known_before = (baselines, job, facts, score, plan, as_known, fitted.seconds, prompting)
    return Prepared(fitted.space, fitted.limits, fitted.predict, *known_before)


def _asked(
    dataset: PreparedDataset,
    space: PreparedSpace,
    metric: Metric,
    say: Callable[[str], None],
    known: SearchRecord | None,
) -> Asked:
    """Prompts that are gone on with: as many as ever; none where nothing is written."""
    if not isinstance(metric, WrittenMetric):
        return Asked(0, 0)
    before = known.facts.get(ASKED) if known else None
    if known is None or not isinstance(before, int):
        return asked(dataset, space, metric, say)
    return Asked(known.facts.get(ASKED_AT_RUNGS, min(before, AT_RUNGS)), before)


def _facts(dataset: PreparedDataset, space: Space) -> Mapping[str, Any]:
    data, backbone = dataset.data, dataset.backbone
    return {
        "data_fingerprint": data.fingerprint,
        "task": data.task.to_dict(),
        "settings": list(data.task.settings),
        "labels": list(getattr(data.task, "classes", ())),
        "train_rows": len(data.splits["train"]),
        "validation_rows": len(data.splits["validation"]),
        "backbone": backbone.name,
        "backbone_parameters": backbone.parameters,
        BACKBONE: backbone.fingerprint,
        REVISION: backbone.revision,
        "max_length": dataset.max_length,
        DTYPE: backbone.holding,
        "batch_length": dataset.length if MASK in data.task.shapes(dataset.length) else None,
        "refused": dict(space.refused),
        "methods": list(space.methods),
        "training": list(space.training),
        "hybrids": list(space.hybrids),
        "pairs": sorted(sorted(pair) for pair in space.pairs or ()),
        "versions": {name: version(name) for name in _VERSIONED},
    }
