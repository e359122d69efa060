"""The last of three preparations: what needs no fine-tuning, and where heads may start."""

import time
from collections.abc import Callable, Mapping
from math import inf, isfinite, nan
from pathlib import Path

import torch

from autopeft.data.store import open_split
from autopeft.search.preparing.dataset import PreparedDataset
from autopeft.search.preparing.shared import marked
from autopeft.space.candidate import Training
from autopeft.space.space import Space
from autopeft.tasks.metrics import Array, Metric, NoScore
from autopeft.tasks.own_metric import answered
from autopeft.training.evaluation import constant_statistics, evaluate, judged
from autopeft.training.model import TaskModel
from autopeft.training.probe import answered_by, fit_probes
from autopeft.trial import Baseline


def prepare_baselines(
    dataset: PreparedDataset, space: Space, metric: Metric, weights: str, say: Callable[[str], None]
) -> Mapping[str, Baseline]:
    """The reference points. A probe is kept for every pooling of the space, because heads start from it."""
    if dataset.data.task.causal:
        return _as_it_is(dataset, metric, say)
    say("measuring the linear probe")
    probes = dataset.probes
    marked(lambda: _made(probes), weights)
    task, backbone = dataset.data.task, dataset.backbone
    train, validation = open_split(dataset.encoded, "train"), open_split(dataset.encoded, "validation")
    backbone.to(_device())
    fitted = fit_probes(backbone.model, backbone.sites.width, task, train, validation, _poolings(space), probes)
    needed, width = answered(task) if metric.of_answers else None, backbone.sites.width
    constant = _baseline(metric, constant_statistics(task, train, validation, width, needed))
    rows = [probe.statistics for probe in fitted.values()]
    if needed:
        rows = [*answered_by(backbone.model, width, task, validation, fitted, needed)]
    probes_by_score = [
        _baseline(metric, each, probe.seconds) for each, probe in zip(rows, fitted.values(), strict=True)
    ]
    sign = 1 if metric.higher_is_better else -1
    best = max(probes_by_score, key=lambda each: sign * each.score if isfinite(each.score) else -inf)
    return {task.constant: constant, "linear probe": best}


def _as_it_is(dataset: PreparedDataset, metric: Metric, say: Callable[[str], None]) -> Mapping[str, Baseline]:
    """The backbone without anything attached: what it knows already."""
    task, backbone, device = dataset.data.task, dataset.backbone, _device()
    say(f"measuring the {task.constant}")
    began = time.perf_counter()
    backbone.to(device)
    head = task.new_head(backbone.sites.width, Training()).to(device)
    model = TaskModel(backbone.model, head, None, task.inputs, backbone.output)
    seen = evaluate(model, open_split(dataset.encoded, "validation"), device)
    return {task.constant: _baseline(metric, seen.judged, time.perf_counter() - began)}


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _baseline(metric: Metric, rows: Array, seconds: float | None = None) -> Baseline:
    try:
        answers = judged(metric, rows)
    except NoScore:  # As of a correlation with what is the same for all.
        return Baseline(nan, nan, seconds)
    return Baseline(answers.score, answers.error, seconds, answers)


def _poolings(space: Space) -> list[str]:
    pooling = space.training.get("pooling")
    return [str(value) for value in pooling.values or (pooling.default,)] if pooling else [Training.pooling]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
