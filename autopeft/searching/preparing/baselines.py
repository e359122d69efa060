"""The last of three preparations: what needs no fine-tuning, and where heads may start."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf, isfinite, nan
from pathlib import Path

import torch

from autopeft.data.store import open_split
from autopeft.searching.preparing.dataset import PreparedDataset
from autopeft.searching.preparing.shared import marked
from autopeft.space.candidate import Training
from autopeft.space.space import Space
from autopeft.tasks.metrics import Array, Metric, NoScore
from autopeft.tasks.own_metric import answered
from autopeft.tasks.written import WrittenMetric
from autopeft.training.asking import Judge, Questions, chosen
from autopeft.training.evaluation import constant_statistics, evaluate, judged
from autopeft.training.model import TaskModel
from autopeft.training.precision import device_here
from autopeft.training.probe import answered_by, fit_probes
from autopeft.trial import Baseline, SearchRecord


def prepare_baselines(
    dataset: PreparedDataset,
    space: Space,
    metric: Metric,
    weights: str,
    say: Callable[[str], None],
    known: SearchRecord | None = None,
    asked: int = 0,
) -> Mapping[str, Baseline]:
    """The reference points. A probe is kept for every pooling of the space, because heads start from it; where heads
    start from nothing, those of a search that is `known` are taken from there. `asked` prompts are gone on with, where
    the metric judges what is written.
    """
    if dataset.data.task.causal:
        return known.baselines if known and known.baselines else _as_it_is(dataset, metric, say, asked)
    say("measuring the linear probe")
    probes = dataset.probes
    marked(lambda: _made(probes), weights)
    task, backbone = dataset.data.task, dataset.backbone
    train, validation = open_split(dataset.encoded, "train"), open_split(dataset.encoded, "validation")
    backbone.to(device_here())
    fitted = fit_probes(backbone.model, backbone.sites.width, task, train, validation, _poolings(space), probes)
    needed, width = answered(task) if metric.of_answers else None, backbone.sites.width
    constant = baseline_of(metric, constant_statistics(task, train, validation, width, needed))
    rows = [probe.statistics for probe in fitted.values()]
    if needed:
        rows = [*answered_by(backbone.model, width, task, validation, fitted, needed)]
    probes_by_score = [
        baseline_of(metric, each, probe.seconds) for each, probe in zip(rows, fitted.values(), strict=True)
    ]
    sign = 1 if metric.higher_is_better else -1
    best = max(probes_by_score, key=lambda each: sign * each.score if isfinite(each.score) else -inf)
    return {task.constant: constant, "linear probe": best}


def alone(dataset: PreparedDataset) -> TaskModel:
    """The backbone without anything attached, with a head that needs no training, on the device."""
    task, backbone = dataset.data.task, dataset.backbone
    backbone.to(device_here())
    head = task.new_head(backbone.sites.width, Training()).to(device_here())
    return TaskModel(backbone.model, head, None, task.inputs, backbone.output)


def _as_it_is(
    dataset: PreparedDataset, metric: Metric, say: Callable[[str], None], asked: int
) -> Mapping[str, Baseline]:
    """What the backbone knows already."""
    say(f"measuring the {dataset.data.task.constant}")
    began = time.perf_counter()
    train, validation = (open_split(dataset.encoded, name) for name in ("train", "validation"))
    model = alone(dataset)
    written: tuple[Mapping[str, str], ...] = ()
    if isinstance(metric, WrittenMetric):
        backbone = dataset.backbone
        tokenizer, task = backbone.tokenizer, dataset.data.task
        questions = Questions.of(validation.taken(chosen(validation, tokenizer, task, asked)), tokenizer, task)
        judge = Judge(backbone, task, metric, questions)
        rows, written = judge(model), tuple(judge.shown)
    else:
        rows = evaluate(model, validation, device_here()).judged
    seconds = time.perf_counter() - began
    own = replace(baseline_of(metric, rows, seconds), tokens=0.0, written=written, pace=seconds / len(rows))
    # Workers load their own.
    dataset.backbone.to(torch.device("cpu"))
    found = {dataset.data.task.constant: own}
    frequent = dataset.data.task.recalled(metric, train, validation, rows)
    if frequent is not None:
        other = baseline_of(metric, frequent, own.seconds)
        # Where answers do not repeat, it is the backbone with a handicap.
        if (1 if metric.higher_is_better else -1) * (other.score - own.score) > 0:
            found["answers as often as in training"] = other
    return found


def baseline_of(metric: Metric, rows: Array, seconds: float | None = None) -> Baseline:
    """What is known of answers by what the metric needs of their rows."""
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
