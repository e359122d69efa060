"""How many prompts a model is asked at the rungs of its training: as many as take a small part of its time."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from autopeft.costs.writing import Writing
from autopeft.data.store import open_split
from autopeft.errors import CannotAttach
from autopeft.searching.preparing.baselines import alone
from autopeft.searching.preparing.dataset import PreparedDataset
from autopeft.searching.preparing.space import PreparedSpace
from autopeft.tasks.written import WrittenMetric
from autopeft.training.asking import AT_RUNGS, AT_THE_END, Judge, Questions, chosen
from autopeft.training.loop import RUNGS
from autopeft.training.precision import device_here

SHARE = 0.25
"""Of the time of a training, at most, as long as that is enough for `FEWEST` at each rung."""
FEWEST = 16
"""With fewer, a curve says little."""


class Asked(NamedTuple):
    """Prompts that are gone on with."""

    at_rungs: int
    """At each but the last."""
    at_the_end: int


def asked(dataset: PreparedDataset, space: PreparedSpace, metric: WrittenMetric, say: Callable[[str], None]) -> Asked:
    """By how fast the backbone alone writes, and how long the quickest training by a method's defaults is predicted to
    take. Raises AutopeftError where no row can be asked.
    """
    backbone, validation = dataset.backbone, open_split(dataset.encoded, "validation")
    rows = chosen(validation, backbone.tokenizer, dataset.data.task, AT_THE_END)
    if len(rows) <= FEWEST:
        return Asked(len(rows), len(rows))
    say(f"seeing how fast the backbone writes, {AT_RUNGS} answers")
    task = dataset.data.task
    judge = Judge(backbone, task, metric, Questions.of(validation.taken(rows[:AT_RUNGS]), backbone.tokenizer, task))
    model = alone(dataset)
    model.to(device_here())
    began = time.perf_counter()
    judge.written(model, AT_RUNGS)
    found = affordable(len(rows), (time.perf_counter() - began) / min(AT_RUNGS, len(rows)), _seconds(space))
    if found.at_the_end < len(rows):
        say(
            f"trials are asked {found.at_rungs} prompts at their rungs and {found.at_the_end} at their end: more would "
            f"take longer than {SHARE:.0%} of a training"
        )
    return found


def writing_of(dataset: PreparedDataset) -> Writing:
    """How long the texts are that models are asked for at most. Raises AutopeftError where no row can be asked."""
    tokenizer, task = dataset.backbone.tokenizer, dataset.data.task
    validation = open_split(dataset.encoded, "validation")
    found = Questions.of(validation.taken(chosen(validation, tokenizer, task, AT_THE_END)), tokenizer, task)
    return Writing(max(map(len, found.prompts)), found.most)


def affordable(rows: int, pace: float, training: float, rungs: int = len(RUNGS)) -> Asked:
    """How many of so many rows are asked, at so many seconds each, in a training that takes so many. Pure."""
    every = min(SHARE * training / pace, rungs * AT_THE_END)
    at_rungs = min(rows, max(FEWEST, min(AT_RUNGS, int(every / rungs))))
    left = every - (rungs - 1) * at_rungs
    return Asked(at_rungs, min(rows, AT_THE_END, max(at_rungs, int(left))))


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
