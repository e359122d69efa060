"""A worker: loads the backbone and the data once, then trains one trial after another on them.

Runs in a worker process (or in the driver with `--workers 0`). It returns facts only; the driver remembers them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import torch

from autopeft import machine
from autopeft.artifacts import Description
from autopeft.backbone.load import Backbone, load_backbone
from autopeft.costs.calibration import costs_of_training
from autopeft.costs.latency import latency_of_writing, measure_latency
from autopeft.costs.measure import (
    longest,
    longest_evaluated,
    measure,
    measure_calibrations,
    measure_evaluation,
    measure_writing,
)
from autopeft.costs.writing import Writing
from autopeft.data.store import Dataset, open_split
from autopeft.errors import AutopeftError
from autopeft.files import bytes_in
from autopeft.methods.attached import Attached, attach
from autopeft.methods.registry import Configured, configured_parts
from autopeft.searching.device_errors import Fault, fault_of
from autopeft.searching.ledger import OUT_OF_MEMORY, OUT_OF_TIME
from autopeft.searching.pausing import AtRungs
from autopeft.space.candidate import Candidate
from autopeft.space.cards import Card
from autopeft.tasks.own_metric import OwnMetric, answered
from autopeft.tasks.own_slips import slip_of
from autopeft.tasks.texts import IDS
from autopeft.tasks.written import OwnWritten, WrittenMetric
from autopeft.training.asking import AT_RUNGS, Judge, Questions, chosen
from autopeft.training.batches import evaluated_at_once
from autopeft.training.frozen import FrozenStates
from autopeft.training.loop import UNBROKEN, Course, Pace, TrainingFailed, set_up, train
from autopeft.training.model import TaskModel
from autopeft.training.precision import device_here, held_as, packed_as, precision_of
from autopeft.training.probe import load_probe
from autopeft.training.state import State, take_up
from autopeft.trial import LATENCY_OF, TOKEN, Outcome, Rung, Status, Trial

_VERSIONED = ("autopeft", "torch", "transformers", "peft")


@dataclass(frozen=True)
class Job:
    """What every worker of a search needs; small, and travels to other machines. Calling it makes a worker."""

    model: str
    description: Description
    tokenized: Path
    probes: Path
    """Folder of the linear probes, one for each pooling."""
    artifacts: Path
    """Folder for the trained weights, one subfolder for each trial."""
    cards: Mapping[str, Card]
    test_fingerprint: str
    """Of the rows that confirmations answer."""
    trust_remote_code: bool = False
    metric: str = "auto"
    """What trials are judged by; the task's default of `auto`."""
    own_metric: OwnMetric | OwnWritten | None = None
    """The same, where it is none of the task's."""
    asked: int = 0
    """Prompts that are gone on with at the end of a training, where that is judged."""
    asked_at_rungs: int = AT_RUNGS
    """The same at the rungs before."""
    writing: Writing | None = None
    """How long texts are that trials are judged by, where they are judged by texts."""
    on_the_way: bool = True
    """Whether trials are kept at their rungs, too, and gone on with from there."""

    def __call__(self) -> "TrainingWorker":
        return TrainingWorker(self)


class TimeIsOver(Exception):
    """A trial was to have ended by now."""


class TrainingWorker:
    """Trains trials on a backbone that stays loaded."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._device = device_here()
        self._backbone: Backbone = load_backbone(
            job.model,
            held_as(job.description.dtype, self._device),
            quantised=packed_as(job.description.dtype),
            trust_remote_code=job.trust_remote_code,
            causal=job.description.task.causal,
            copies=job.tokenized.parent if self._device.type == "cpu" else None,
        )
        self._backbone.to(self._device)
        self._train: Dataset = open_split(job.tokenized, "train")
        self._validation: Dataset = open_split(job.tokenized, "validation")
        self._states = FrozenStates(self._train, self._validation)
        self._task = job.description.task
        self._metric = job.own_metric or self._task.metric(job.metric)
        self._answered = answered(self._task) if self._metric.of_answers else None
        self._questions = self._asked(self._validation)
        self.facts: Mapping[str, Any] = self._facts()
        self.spent = False

    def train(self, trial: Trial) -> Iterator[Rung | Outcome]:
        """Yields rungs, then the outcome; a fault of the trial becomes its outcome, and the backbone is as before."""
        began = time.perf_counter()
        try:
            yield from self._trained(trial, began)
        except TimeIsOver:
            yield Outcome(Status.STOPPED, OUT_OF_TIME, seconds=time.perf_counter() - began, facts=self.facts)
        except BaseException as error:
            slip = slip_of(error, type(self._task))
            if slip is None and not isinstance(error, Exception):
                raise
            yield self._failed(error, slip, began)

    def _trained(self, trial: Trial, began: float) -> Iterator[Rung | Outcome]:
        candidate, pace = trial.candidate, Pace()
        ask = partial(_ask, trial.until)
        judge = self._judge(candidate, self._questions, ask)
        files = AtRungs(self._job.artifacts, trial, self._job.on_the_way)
        state = files.state()
        with self._attached(trial) as model:
            calibrations = measure_calibrations(model, longest(self._train), self._device)
            set_up_began = time.perf_counter()
            if state is None:
                self._set_up(trial, model, ask)
                told = {"set_up_seconds": time.perf_counter() - set_up_began, "seconds": 0.0}
            else:
                take_up(model, state)
                told = dict(state.told)
            step = measure(model, self._train, candidate, self._device)
            tokens = evaluated_at_once(candidate.training, self._train.lengths)
            evaluations = [measure_evaluation(model, longest_evaluated(self._validation, tokens), self._device)]
            if self._job.writing is not None:
                evaluations.append(measure_writing(model, self._job.writing, tokens, self._device))
            with self._states.serving(model, candidate.training, self._device) as kept:

                def keep(state: State) -> None:
                    seconds = told["seconds"] + time.perf_counter() - began
                    files.keep(replace(state, told={**told, "seconds": seconds}))

                precision = precision_of(self._device, model.held)
                description = replace(self._job.description, precision=precision)
                for rung in self._rungs(trial, model, pace, Course(state, keep, ask), judge):
                    yield (rung := files.with_weights(rung, model, description))
            remaining = model.methods.remaining
        yield Outcome(
            Status.FINISHED,
            seconds=told["seconds"] + time.perf_counter() - began,
            measured=costs_of_training(step, calibrations, *evaluations),
            answers=pace.answers,
            artifact=rung.artifact,
            facts={
                **self.facts,
                **self._speed(pace, remaining),
                **kept.facts(),
                **({"written": [*judge.shown]} if judge else {}),
                "set_up_seconds": told["set_up_seconds"],
                "bytes_on_disk": bytes_in(files.weights),
            },
        )

    def _speed(self, pace: Pace, remaining: Sequence[Configured]) -> Mapping[str, Any]:
        """Of training, and of inference on one validation row of typical length: training rows may hold several. Where
        texts are written, of one new token after such a row.
        """
        rows, task = self._validation, self._task
        middle = int(np.argsort(rows.lengths, kind="stable")[len(rows) // 2])
        if task.causal:
            ids = rows.columns[IDS][middle]
            prompt, _ = task.parted(ids, rows.targets[middle])
            latency = latency_of_writing(self._backbone, remaining, prompt or ids[:1].tolist())
        else:
            inputs = {name: tensor.to(self._device) for name, tensor in rows.batch(np.array([middle])).items()}
            latency = measure_latency(self._backbone.model, self._backbone.sites, remaining, task.inputs(inputs))
        timed = {"latency": latency.with_methods, "latency_bare": latency.bare} if latency else {}
        return {
            "seconds_per_step": pace.seconds / pace.steps,
            "examples_per_second": pace.examples / pace.seconds,
            **timed,
            **({LATENCY_OF: TOKEN} if task.causal else {}),
        }

    def _asked(self, split: Dataset) -> Questions | None:
        """What is asked of a split, where models are judged by what they write."""
        if not self._metric.of_texts:
            return None
        tokenizer = self._backbone.tokenizer
        return Questions.of(split.taken(chosen(split, tokenizer, self._task, self._job.asked)), tokenizer, self._task)

    def _judge(
        self, candidate: Candidate, questions: Questions | None, ask: Callable[[], None] = UNBROKEN.ask
    ) -> Judge | None:
        if questions is None or not isinstance(self._metric, WrittenMetric):
            return None
        tokens = evaluated_at_once(candidate.training, self._train.lengths)
        return Judge(self._backbone, self._task, self._metric, questions, tokens, ask, self._job.asked_at_rungs)

    def _set_up(self, trial: Trial, model: TaskModel, ask: Callable[[], None] = UNBROKEN.ask) -> None:
        """Lets the attached methods calibrate."""
        set_up(model, self._train, seed=trial.seed, device=self._device, ask=ask)

    def _rungs(
        self,
        trial: Trial,
        model: TaskModel,
        pace: Pace | None = None,
        course: Course = UNBROKEN,
        judge: Judge | None = None,
    ) -> Iterator[Rung]:
        return train(
            model,
            self._states.train,
            self._states.validation,
            trial.candidate,
            self._metric,
            self._task.metrics,
            seed=trial.seed,
            device=self._device,
            pace=pace,
            answered=self._answered,
            judge=judge,
            course=course,
        )

    @contextmanager
    def _attached(self, trial: Trial) -> Iterator[TaskModel]:
        """The candidate's methods on the backbone and a head, both initialised from the trial's seed."""
        candidate = trial.candidate
        with torch.random.fork_rng():
            torch.manual_seed(trial.seed)
            parts = configured_parts(candidate.parts, self._job.cards)
            attached = attach(self._backbone.model, parts, self._backbone.sites)
            try:
                head = self._task.new_head(self._backbone.sites.width, candidate.training)
                if candidate.training.head_start == "probe" and not self._task.causal:
                    load_probe(self._job.probes, candidate.training.pooling).start(head)
                output = self._backbone.output
                yield TaskModel(self._backbone.model, head.to(self._device), attached, self._task.inputs, output)
            finally:
                self._take_off(attached)

    def _take_off(self, attached: Attached) -> None:
        """A backbone that something could not be taken off is not what it was: its process trains nothing more."""
        try:
            attached.detach()
        except BaseException:
            self.spent = True
            raise

    def _failed(self, error: BaseException, slip: AutopeftError | None, began: float) -> Outcome:
        """`slip` is what to answer where it came about in a user's own code."""
        fault, facts = fault_of(error), self.facts
        told = error if slip is None else slip
        reason = str(told) if isinstance(told, TrainingFailed | AutopeftError) else f"{type(told).__name__}: {told}"
        if fault is Fault.MEMORY:
            reason, facts = f"{OUT_OF_MEMORY}: {error}", {**facts, **_memory_allowed(self._device)}
        self.spent = self.spent or fault is Fault.DEVICE
        status = Status.LOST if fault is Fault.DISK else Status.FAILED
        return Outcome(status, reason, seconds=time.perf_counter() - began, facts=facts)

    def _facts(self) -> Mapping[str, Any]:
        """Asked for once, because a device that fails later answers nothing."""
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
        return {
            "device": name,
            "device_memory": _memory_of(self._device),
            "threads": str(torch.get_num_threads()),
            "test_fingerprint": self._job.test_fingerprint,
            "versions": {"python": python_version(), **{name: version(name) for name in _VERSIONED}},
        }


def _ask(until: float | None) -> None:
    """Raises TimeIsOver where it is."""
    if until is not None and time.time() >= until:
        raise TimeIsOver


def _memory_of(device: torch.device) -> int:
    """Bytes of all memory of a device; of a CPU, what this process may have."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return machine.memory()


def _memory_allowed(device: torch.device) -> Mapping[str, int]:
    """Bytes of a GPU that this process has or could still get, beside whatever else uses it."""
    if device.type != "cuda":
        return {}
    return {"memory_allowed": torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)}
