"""Trains members of the front once more, to see what they are worth to somebody who trains them again.

Runs in a worker process (or in the driver with `--workers 0`). Training goes its full length; the weights of the best
rung on validation data are kept in memory, and those alone answer the test split, once. They are not saved: what a
search ships is what it trained.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from autopeft.search.worker import Job, TrainingWorker
from autopeft.tasks.classifier import Classifier
from autopeft.tasks.tokenized import open_split
from autopeft.training.loop import answers
from autopeft.trial import Answers, Outcome, Rung, Status, Trial


@dataclass(frozen=True)
class Answered(Outcome):
    """The outcome of a finished confirmation."""

    step: int = 0
    """Optimizer steps of the checkpoint that was kept."""
    validation: Answers | None = None
    test: Answers | None = None


@dataclass(frozen=True)
class Again:
    """What every worker that confirms needs. Calling it makes a worker."""

    job: Job

    def __call__(self) -> "ConfirmingWorker":
        return ConfirmingWorker(self.job)


class ConfirmingWorker(TrainingWorker):
    """Trains trials as a search does, and lets the best checkpoint of each answer the test split."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._test = open_split(job.tokenized, "test") if (job.tokenized / "test").is_dir() else None

    def _trained(self, trial: Trial, began: float) -> Iterator[Rung | Outcome]:
        with self._attached(trial) as (attached, head):
            classifier = Classifier(attached, head, trial.candidate.training.pooling)
            self._set_up(trial, attached, classifier)
            tensors = [*attached.parameters(), *head.parameters()]
            best: Rung | None = None
            kept: list[torch.Tensor] = []
            for rung in self._rungs(trial, attached, classifier):
                if best is None or rung.accuracy >= best.accuracy:
                    best, kept = rung, [tensor.detach().clone() for tensor in tensors]
                yield rung
            assert best is not None
            with torch.no_grad():
                for tensor, value in zip(tensors, kept, strict=True):
                    tensor.copy_(value)
            validation, test = (
                answers(classifier, self._task, split, self._device) if split is not None else None
                for split in (self._validation, self._test)
            )
        yield Answered(
            Status.FINISHED,
            seconds=time.perf_counter() - began,
            facts=self.facts,
            step=best.step,
            validation=validation,
            test=test,
        )
