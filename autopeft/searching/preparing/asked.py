"""How many prompts a model is asked at the end of its training: as many as take a small part of its time."""

import math
import time
from collections.abc import Callable

from autopeft.data.store import open_split
from autopeft.errors import CannotAttach
from autopeft.searching.preparing.baselines import alone, device_here
from autopeft.searching.preparing.dataset import PreparedDataset
from autopeft.searching.preparing.space import PreparedSpace
from autopeft.tasks.written import WrittenMetric
from autopeft.training.asking import AT_RUNGS, AT_THE_END, Judge, Questions, chosen

SHARE = 0.25
"""Of the time of a training, at most, as long as there are as many as at its rungs."""


def asked(dataset: PreparedDataset, space: PreparedSpace, metric: WrittenMetric, say: Callable[[str], None]) -> int:
    """By how fast the backbone alone writes, and how long the quickest training by a method's defaults is predicted to
    take. Raises AutopeftError where no row can be asked.
    """
    backbone, validation = dataset.backbone, open_split(dataset.encoded, "validation")
    rows = chosen(validation, backbone.tokenizer, dataset.data.task, AT_THE_END)
    if len(rows) <= AT_RUNGS:
        return len(rows)
    say(f"seeing how fast the backbone writes, {AT_RUNGS} answers")
    task = dataset.data.task
    judge = Judge(backbone, task, metric, Questions.of(validation.taken(rows[:AT_RUNGS]), backbone.tokenizer, task))
    model = alone(dataset)
    model.to(device_here())
    began = time.perf_counter()
    judge.written(model, AT_RUNGS)
    count = affordable(len(rows), (time.perf_counter() - began) / AT_RUNGS, _seconds(space))
    if count < len(rows):
        say(f"trials are asked {count} prompts at their end: more would take longer than {SHARE:.0%} of a training")
    return count


def affordable(rows: int, pace: float, training: float) -> int:
    """How many of so many rows are asked, at so many seconds each, after a training that takes so many. Pure."""
    return min(rows, max(AT_RUNGS, int(min(SHARE * training / pace, AT_THE_END))))


def _seconds(space: PreparedSpace) -> float:
    """Of the quickest training by defaults; infinite where nobody knows."""
    found = []
    for kind in (*space.space.methods, *space.space.hybrids):
        candidate = space.space.defaults(kind)
        try:
            found.append(space.seconds(candidate, space.predict(candidate)))
        except CannotAttach:
            continue
    return min(found, default=math.inf)
