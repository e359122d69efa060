"""Trains members of the front once more, to see what they are worth to somebody who trains them again.

Runs in a worker process (or in the driver with `--workers 0`). Training goes its full length, and the weights of its
last step answer, as in a search, which scores and ships its last step: the test split sees them once. They are not
saved: what a search ships is what it trained.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from autopeft.data.store import Dataset, open_split
from autopeft.searching.worker import Job, TrainingWorker
from autopeft.training.evaluation import evaluate, judged
from autopeft.training.model import TaskModel
from autopeft.trial import Answers, Outcome, Rung, Status, Trial


@dataclass(frozen=True)
class Answered(Outcome):
    """The outcome of a finished confirmation."""

    step: int = 0
    """Optimizer steps of the weights that answered: all of them."""
    validation: Answers | None = None
    test: Answers | None = None


@dataclass(frozen=True)
class Again:
    """What every worker that confirms needs. Calling it makes a worker."""

    job: Job

    def __call__(self) -> "ConfirmingWorker":
        return ConfirmingWorker(self.job)


class ConfirmingWorker(TrainingWorker):
    """Trains trials as a search does, and lets the last step of each answer the test split, too."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._test = open_split(job.tokenized, "test") if (job.tokenized / "test").is_dir() else None

    def _trained(self, trial: Trial, began: float) -> Iterator[Rung | Outcome]:
        with self._attached(trial) as model:
            self._set_up(trial, model)
            with self._states.serving(model, trial.candidate.training, self._device):
                judge = self._judge(trial.candidate, self._questions)
                for rung in self._rungs(trial, model, judge=judge):
                    yield rung
            validation, test = (
                self._answers(trial, model, split) if split is not None else None
                for split in (self._validation, self._test)
            )
        yield Answered(
            Status.FINISHED,
            seconds=time.perf_counter() - began,
            facts=self.facts,
            step=rung.step,
            validation=validation,
            test=test,
        )

    def _answers(self, trial: Trial, model: TaskModel, split: Dataset) -> Answers:
        if (judge := self._judge(trial.candidate, self._asked(split))) is not None:
            return judged(self._metric, judge(model))
        seen = evaluate(model, split, self._device, answered=self._answered)
        return judged(self._metric, seen.judged)
