"""What a language model does with examples in its prompt: what fine-tuning has to beat.

Measured once, when the trials of a search have ended: no worker waits for it, and it is known by then how long the
search took, of which it may take a small part. Rows are those that trials were judged on, some of them where there are
many, so that both are compared row by row. Examples are training rows; of several draws the one counts that does best
on other training rows, so that prompting has its choice, too.

`extent` is pure: how much of it there is time for. What turns out slower than that is not measured.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any, NamedTuple

import numpy as np

from autopeft.data.store import Dataset, open_split
from autopeft.searching.preparing.baselines import alone, baseline_of
from autopeft.searching.preparing.dataset import PreparedDataset
from autopeft.tasks.base import InPrompt
from autopeft.tasks.metrics import Array, Metric
from autopeft.tasks.written import WrittenMetric
from autopeft.training.asking import Judge, Questions, chosen
from autopeft.training.evaluation import evaluate
from autopeft.training.precision import device_here
from autopeft.trial import Baseline

SHARE = 0.05
"""Of a search's time, at most."""
SPARE = 3.0
"""Seconds that it may take of any search, however short."""
COUNTS = (1, 4, 8)
"""Examples in a prompt."""
DRAWS = 3
"""Of examples, of which the best one counts."""
ROWS = 100
"""Validation rows that are asked, at most."""
_FEWER = (75, 50, 30)
"""With fewer, a score says little."""
_TRIED = 0.25
"""Training rows that draws are compared on, as a part of the validation rows."""
_CAUTION = 0.8
"""The part of its time that is planned for."""


class Extent(NamedTuple):
    """How much is measured."""

    rows: int
    counts: tuple[int, ...]
    draws: int

    @property
    def tried(self) -> int:
        """Training rows that each draw is judged by; none where there is nothing to choose."""
        return max(1, round(_TRIED * self.rows)) if self.draws > 1 else 0

    def readings(self, count: int) -> int:
        """Rows without examples that are read as fast as these with so many."""
        draws = self.draws if count else 0
        return (count + 1) * (self.rows + draws * self.tried)

    @property
    def whole(self) -> int:
        """The same of all, and of the rows alone."""
        return sum(map(self.readings, (0, *self.counts)))


def extent(rows: int, affordable: float) -> Extent | None:
    """As much of it as takes no longer than to read so many rows alone; None where that is next to nothing."""
    for counts, draws in ((COUNTS, DRAWS), (COUNTS, 1), (COUNTS[:2], 1), (COUNTS[:1], 1)):
        for some in (rows, *(each for each in _FEWER if each < rows)):
            if (found := Extent(some, counts, draws)).whole <= affordable:
                return found
    return None


def named(count: int) -> str:
    """What people call the backbone with so many examples."""
    return f"backbone with {count or 'no'} example{'s' if count > 1 else ''} in its prompt"


@dataclass(frozen=True)
class Prompting:
    """Asks the backbone of a search."""

    dataset: PreparedDataset
    metric: Metric
    seed: int
    asked: int = 0
    """Prompts that are gone on with, where the metric judges what is written; rows are counted among these then."""

    def is_lacking(self, baselines: Mapping[str, Baseline]) -> bool:
        """Whether there is something to measure still."""
        return self.dataset.data.task.prompted and not any(each.tokens for each in baselines.values())

    def seconds(self, baselines: Mapping[str, Baseline]) -> float:
        """How long all of it takes, by how long the backbone as it is took for all rows."""
        before = baselines.get(self.dataset.data.task.constant)
        if before is None or before.seconds is None or not self.is_lacking(baselines):
            return 0.0
        rows = self.asked or len(open_split(self.dataset.encoded, "validation"))
        return before.seconds / rows * Extent(min(rows, ROWS), COUNTS, DRAWS).whole / _CAUTION

    def measured(
        self, seconds: float, baselines: Mapping[str, Baseline], say: Callable[[str], None]
    ) -> Mapping[str, Baseline]:
        """Baselines by name, those known and those that so many seconds suffice for. Raises nothing: a search that has
        trained all its trials is worth more.
        """
        if not self.is_lacking(baselines):
            return baselines
        found = dict(baselines)
        try:
            before = baselines.get(self.dataset.data.task.constant)
            if before is not None and before.seconds is not None:
                _Asking(self).measure(seconds, before.seconds, found, say)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            say(f"examples in the prompt are not measured: {reason}")
        return found


class _Split:
    """What the model reads of a split, and the rows that it is read of."""

    def __init__(self, dataset: PreparedDataset, name: str, asked: int = 0) -> None:
        """Of the rows that are `asked`, if that is said."""
        rows, task = dataset.data.splits[name], dataset.data.task
        self._read = open_split(dataset.encoded, name)
        whole = len(rows) == len(self._read)
        kept = np.arange(len(rows)) if whole else task.kept(rows, dataset.backbone, dataset.max_length)
        if asked:
            chosen_ = chosen(self._read, dataset.backbone.tokenizer, dataset.data.task, asked)
            self._read, kept = self._read.taken(chosen_), kept[chosen_]
        self._inputs = [rows.inputs[row] for row in kept.tolist()]

    def __len__(self) -> int:
        return len(self._read)

    def inputs(self, rows: np.ndarray) -> Sequence[Any]:
        return [self._inputs[row] for row in rows]

    def read(self, rows: np.ndarray) -> Dataset:
        return self._read.taken(rows)


class _Asking:
    """One measurement."""

    def __init__(self, asked: Prompting) -> None:
        self._began = time.perf_counter()
        self._dataset, self._metric, self._device = asked.dataset, asked.metric, device_here()
        self._train, self._validation = _Split(asked.dataset, "train"), _Split(asked.dataset, "validation", asked.asked)
        self._model = alone(asked.dataset)
        self._orders = [np.random.default_rng((asked.seed, n)).permutation(len(self._train)) for n in range(DRAWS)]
        self._rows = np.random.default_rng(asked.seed).permutation(len(self._validation))[:ROWS]

    @property
    def _taken(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._began

    def measure(self, seconds: float, of_all: float, found: dict[str, Baseline], say: Callable[[str], None]) -> None:
        """Adds baselines to those `found`. The backbone alone took `of_all` seconds for all rows."""
        lacks = "examples in the prompt are not measured: they would take too long"
        rows = len(self._rows)
        if of_all / len(self._validation) * rows > seconds:
            say(lacks)
            return
        began = time.perf_counter()
        self._ask((), self._validation, self._rows)
        pace = (time.perf_counter() - began) / rows
        size = extent(rows, _CAUTION * (seconds - self._taken) / pace)
        if size is None:
            say(lacks)
            return
        some = np.sort(self._rows[: size.rows])
        for count in (0, *size.counts):
            if not count and len(some) == len(self._validation):
                continue  # the backbone as it is, on all rows
            if pace * size.readings(count) > seconds - self._taken or count >= len(self._train):
                say(f"{lacks}, from {count} on")
                return
            say(f"asking the {named(count)}, {len(some)} rows")
            if (baseline := self._baseline(count, size, some)) is None:
                say(f"no row can be read with {count} examples in its prompt")
                return
            found[named(count)] = baseline

    def _baseline(self, count: int, size: Extent, rows: np.ndarray) -> Baseline | None:
        """None where no row can be read with so many examples."""
        began = time.perf_counter()
        examples = self._best(count, size)
        asking = time.perf_counter()
        asked = self._ask(self._train.inputs(examples), self._validation, rows)
        pace = (time.perf_counter() - asking) / max(len(asked.in_prompt.places), 1)
        if not len(asked.in_prompt.places):
            return None
        made = baseline_of(self._metric, asked.statistics, time.perf_counter() - began)
        places = asked.in_prompt.places
        numbers = tuple(int(row) for row in rows[places])
        left_out = len(rows) - len(places)
        return replace(
            made, rows=numbers, tokens=asked.in_prompt.more, left_out=left_out, written=asked.written, pace=pace
        )

    def _best(self, count: int, size: Extent) -> np.ndarray:
        """Training rows of the draw that does best on other training rows."""
        tried = self._orders[0][: min(size.tried, len(self._train) - count)]
        draws = [order[~np.isin(order, tried)][:count] for order in self._orders[: size.draws]]
        if not count or len(draws) == 1:
            return draws[0]
        return max(draws, key=lambda draw: self._worth(self._ask(self._train.inputs(draw), self._train, tried)))

    def _worth(self, asked: "_Asked") -> tuple[int, float]:
        """More rows that can be read come before better answers."""
        if not len(asked.in_prompt.places):
            return 0, -inf
        made = baseline_of(self._metric, asked.statistics)
        score = made.score if self._metric.higher_is_better else -made.score
        return len(asked.in_prompt.places), score if isfinite(score) else -inf

    def _ask(self, examples: Sequence[Any], split: _Split, rows: np.ndarray) -> "_Asked":
        task, backbone = self._dataset.data.task, self._dataset.backbone
        found = task.in_prompt(examples, split.inputs(rows), split.read(rows), backbone)
        if not len(found.places):
            return _Asked(found, np.empty((0, 0)))
        if not isinstance(self._metric, WrittenMetric):
            return _Asked(found, evaluate(self._model, found.data, self._device).judged)
        judge = Judge(backbone, task, self._metric, Questions.of(found.data, backbone.tokenizer, task))
        return _Asked(found, judge(self._model), tuple(judge.shown))


class _Asked(NamedTuple):
    """Rows that were answered."""

    in_prompt: InPrompt
    statistics: Array
    written: tuple[Mapping[str, str], ...] = ()
