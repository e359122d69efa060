"""What is remembered of a search: trials with their costs, curves and outcomes. Plain frozen facts, no behaviour of
training.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from autopeft.errors import AutopeftError, require_extra
from autopeft.objectives import ACCURACY, SCORE, TIME, Objective, objectives_named, show
from autopeft.plan import Plan
from autopeft.space.candidate import OF_TASKS, Candidate

ASKED = "asked"
"""The name of a fact: how many prompts were gone on with at the end of each training."""
ASKED_AT_RUNGS = "asked_at_rungs"
"""The same at each rung before."""
LATENCY_OF, TOKEN = "latency_of", "token"
"""The name of an outcome's fact: what latency is of, where that is not one row; and its value for one new token."""


@dataclass(frozen=True)
class Costs:
    """What a candidate costs; known before training (predicted) or read off a real step (measured)."""

    trainable: int
    """Parameters that receive a gradient, without the task head."""
    memory: int
    """Peak bytes alive in a training step, or before the first where methods look at data: weights, activations,
    gradients, optimizer state, temporary."""
    stored: int
    """Bytes that have to be shipped, without the task head."""
    flops: int
    """Floating-point operations of one training step: forward and backward passes of a whole batch."""
    memory_by_part: Mapping[str, int] = field(default_factory=dict)
    """`memory` split into weights, activations, gradients, optimizer and temporary bytes."""
    inference_flops: int | None = None
    """Floating-point operations of the backbone on one text, after what merges was merged; None where not known."""
    overhead: float | None = None
    """By how much that is more than the bare backbone needs, as a fraction: 0 where all merges; None where not known.
    """
    set_up_flops: int | None = None
    """Floating-point operations on training data before the first step, once; None where not known."""
    kept_flops: int | None = None
    """`flops` of a step whose frozen layers' states are all kept, where they can be; None where not known."""
    work: Mapping[str, int] = field(default_factory=dict)
    """What seconds follow from: of each stage of a training its operations, FLOPs and bytes moved, by name; empty where
    not known."""
    time: float | None = None
    """Seconds of a whole training as predicted when it was looked at, set-up, evaluations and saving included; None
    where nobody predicted them."""

    def value(self, name: str) -> float:
        """One cost by its name; infinite where it is not known."""
        value = getattr(self, name)
        return math.inf if value is None else float(value)

    def excesses(self, limits: Mapping[str, float]) -> dict[str, float]:
        """By how much limits are broken, as a fraction of each, by name of the cost; empty when all are kept."""
        return excesses({name: self.value(name) for name in limits}, limits)


def excesses(values: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """By how much values break their limits, as a fraction of each limit (of 1 where it is 0); empty when none does."""
    return {
        name: (value - limits[name]) / (limits[name] or 1) for name, value in values.items() if value > limits[name]
    }


@dataclass(frozen=True)
class Rung:
    """A point in training at which a trial is judged."""

    step: int
    """Optimizer steps taken so far."""
    steps: int
    """Optimizer steps of the full training."""
    score: float
    """The metric on validation data."""
    error: float
    """Its standard error: how far it would lie off on as many other rows; not a number where nobody knows."""
    loss: float
    """Mean training loss since the previous rung."""
    seconds: float
    """Training seconds so far, evaluation included."""
    others: Mapping[str, float] = field(default_factory=dict)
    """Further metrics by name, kept beside the one that is judged."""
    other_errors: Mapping[str, float] = field(default_factory=dict)
    """Their standard errors; of a rung that an earlier version remembered, none."""
    artifact: str = ""
    """Folder of the weights that had this score, until those of a later rung took their place; empty where none were
    kept. Places are those of an outcome's."""

    @property
    def share(self) -> float:
        """Of the full training that it took, up to 1."""
        return self.step / self.steps if self.steps else 0.0


class Status(StrEnum):
    """How a trial stands."""

    TRAINING = "training"
    FINISHED = "finished"
    STOPPED = "stopped early"
    FAILED = "failed"
    LOST = "lost"
    """Its worker went, twice: killed, preempted, or with its machine; or the disk was full. That says nothing of the
    candidate.
    """

    @property
    def came_to_nothing(self) -> bool:
        """Whether what has this status ended without a score: it failed, or was lost with its worker."""
        return self not in (Status.TRAINING, Status.FINISHED, Status.STOPPED)


def standard_error(values: NDArray[np.float64]) -> float:
    """Of a score, from its rows' values: how far it would lie off on as many other rows, as a standard deviation."""
    return float(np.std(values) / np.sqrt(len(values)))


@dataclass(frozen=True)
class Answers:
    """How one trained model did on the rows of one split."""

    score: float
    """The metric."""
    rows: int
    values: bytes = field(repr=False)
    """What each row is worth, as little-endian float32 in the order of the split; their mean is the score."""

    @classmethod
    def of(cls, score: float, values: np.ndarray) -> Self:
        """From the (rows,) values of rows, as `Metric.values` gives them."""
        return cls(score, len(values), values.astype("<f4").tobytes())

    @property
    def of_rows(self) -> NDArray[np.float64]:
        """(rows,) what each row is worth."""
        return np.frombuffer(self.values, dtype="<f4", count=self.rows).astype(np.float64)

    @property
    def error(self) -> float:
        """The score's standard error."""
        return standard_error(self.of_rows)

    @property
    def are_whole(self) -> bool:
        """Whether there is a value for every row, and all are numbers."""
        whole = 0 < self.rows == len(self.values) // 4 and math.isfinite(self.score)
        return whole and bool(np.isfinite(self.of_rows).all())


@dataclass(frozen=True)
class Outcome:
    """What training returned."""

    status: Status
    reason: str = ""
    """Why it stopped, failed or was lost; empty when finished."""
    seconds: float = 0.0
    """Wall-clock of the trial on its worker, set-up included."""
    measured: Costs | None = None
    """The same costs, read off one real training step."""
    artifact: str = ""
    """Folder of the trained weights, empty when there are none: in the database relative to the run folder, of a search
    that was opened as it is found now."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Where and with what it was trained: device, dtype, versions, examples per second."""
    answers: Answers | None = None
    """Of the last rung, on validation rows, so that trials can be compared row by row; None where nobody kept them."""


@dataclass(frozen=True)
class Trial:
    """One candidate of a search and all that is known of it."""

    number: int
    candidate: Candidate
    predicted: Costs
    params: Mapping[str, Any]
    """The draws from the space that made the candidate, by parameter name; they teach the sampler again after a resume.
    """
    seed: int
    status: Status = Status.TRAINING
    curve: tuple[Rung, ...] = ()
    outcome: Outcome | None = None
    started: datetime | None = None
    finished: datetime | None = None
    alone: bool = False
    """It is to have a whole device to itself. Whoever gives it knows why; it is not remembered with the trial."""
    until: float | None = None
    """When it is to have ended, whatever it has reached, in seconds since 1970; not remembered either."""
    search: "SearchRecord | None" = field(default=None, repr=False, compare=False)
    """What is remembered of its search, for the model card. Whoever asks a search for a trial gets it, too."""

    def __repr__(self) -> str:
        costs = ", ".join(f"{name} {show(name, self.predicted.value(name))}" for name in ("memory", "trainable"))
        judged = "" if self.score is None else f", score {self.score:.3g}"
        return f"<Trial {self.number}: {self.candidate.name}, {self.status.value}{judged}, {costs}>"

    @property
    def score(self) -> float | None:
        """The metric at the last rung; None before the first."""
        return self.curve[-1].score if self.curve else None

    @property
    def error(self) -> float | None:
        """The score's standard error; None where there is no score, or nobody knows."""
        return self.curve[-1].error if self.curve and math.isfinite(self.curve[-1].error) else None

    @property
    def artifact(self) -> str:
        """Folder of the weights that have its score; empty where there are none."""
        of_outcome = self.outcome.artifact if self.outcome else ""
        return of_outcome or (self.curve[-1].artifact if self.curve and not self.status.came_to_nothing else "")

    @property
    def is_model(self) -> bool:
        """Whether what it has reached is a model that may be recommended: it finished, or trains still or was stopped,
        and the weights of its last rung were kept.
        """
        return self.status is Status.FINISHED or bool(self.artifact and not self.status.came_to_nothing)

    @property
    def share(self) -> float:
        """Of its full training that its score comes from, up to 1."""
        return 1.0 if self.status is Status.FINISHED or not self.curve else self.curve[-1].share

    @property
    def others(self) -> Mapping[str, float]:
        """Further metrics at the last rung by name, which nothing is judged by; none before the first."""
        return self.curve[-1].others if self.curve else {}

    @property
    def other_errors(self) -> Mapping[str, float]:
        """Their standard errors, as far as they are known."""
        return self.curve[-1].other_errors if self.curve else {}

    @property
    def seconds(self) -> float | None:
        """What the whole training took, where it finished."""
        return self.outcome.seconds if self.outcome and self.status is Status.FINISHED else None

    def measured(self, name: str) -> float | None:
        """A cost by its name as it was measured; None where it was not."""
        if name == TIME:
            return self.seconds
        costs = self.outcome.measured if self.outcome else None
        value: float | None = getattr(costs, name, None)
        return value

    def value(self, name: str) -> float:
        """The score, or a cost, by its name in code. Raises KeyError for a trial without score."""
        if name == SCORE:
            if self.score is None:
                raise KeyError(f"trial {self.number} has no score")
            return self.score
        return self.predicted.value(name)

    def save(
        self,
        to: str | Path,
        merge: bool = False,
        model: str | None = None,
        *,
        onnx: bool = False,
        lora: bool = False,
        trust_remote_code: bool = False,
    ) -> Path:
        """Writes the trained weights to a new folder, with a model card; `merge` folds the method into the backbone's
        weights, as a class of transformers where one computes the same; `onnx` writes one ONNX file instead, `lora` a
        LoRA that stands for a change of weights; `model` is where the backbone lies now, if elsewhere;
        `trust_remote_code` runs code that comes with the backbone.

        `autopeft.load` reads it (but for ONNX), and `peft.PeftModel.from_pretrained` where the method is peft's. Raises
        AutopeftError.
        """
        if not self.artifact:
            raise AutopeftError(f"trial {self.number} has no trained weights: it is {self.status.value}.")
        folder = Path(self.artifact)
        if not folder.is_dir():
            raise AutopeftError(
                f"the weights of trial {self.number} are gone: there is no folder '{folder}'; if the run folder lies "
                "elsewhere now, say where by --folder. Those of beaten trials a search deletes, unless it is told to "
                "keep all."
            )
        if onnx:
            require_extra("onnx")
        from autopeft.artifacts import export, read_description

        _, candidate = read_description(folder)
        if candidate != self.candidate:
            raise AutopeftError(
                f"the weights in '{folder}' are not those of trial {self.number} ({self.candidate.name}): another "
                "search wrote there since."
            )
        return export(folder, to, merge, model, onnx=onnx, lora=lora, trial=self, trust_remote_code=trust_remote_code)


@dataclass(frozen=True)
class Confirmation:
    """A member of the front trained again, at full length and with a seed that the search never used."""

    number: int
    """The trial that it confirms."""
    repeat: int
    """Which of the trial's confirmations, from 1; those of the same repeat share their seed."""
    seed: int
    status: Status
    """Finished, failed or lost."""
    reason: str = ""
    """Why it failed or was lost; empty when finished."""
    seconds: float = 0.0
    """Wall-clock of the training on its worker, set-up included."""
    step: int = 0
    """Optimizer steps of the weights that answered: all of them. Of an old confirmation it may be those of an earlier
    rung, the best of three on validation data."""
    validation: Answers | None = None
    test: Answers | None = None
    """None where there is no test split, and where training failed."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Where and with what it was trained, like those of an outcome."""
    finished: datetime | None = None


@dataclass(frozen=True)
class Baseline:
    """What needs no fine-tuning: a reference point that every front is shown with, on validation data."""

    score: float
    error: float
    """The score's standard error; not a number where nobody knows."""
    seconds: float | None = None
    """What it took to make; None of what answers every row alike, and where nobody measured."""
    answers: Answers | None = None
    rows: tuple[int, ...] | None = None
    """Which validation rows it answered, from 0; None of one that answered all."""
    tokens: float | None = None
    """By how many the examples in a prompt make it longer, on average; None of what is asked by no prompt."""
    left_out: int = 0
    """Rows that it was to answer, and that it could not read."""
    written: tuple[Mapping[str, str], ...] = ()
    """Some prompts, answers, and what was generated, where that was judged."""
    pace: float | None = None
    """Seconds for one row; None where nobody measured."""


@dataclass(frozen=True)
class SearchRecord:
    """All that is remembered of one search."""

    name: str
    plan: Plan
    created: datetime
    trials: tuple[Trial, ...] = ()
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    """By the names that people read; empty before they are measured."""
    ended: datetime | None = None
    """When the search reached its limits; None while it runs or after it was interrupted."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Versions, data fingerprint, columns and labels as understood, backbone size, batch shapes."""
    turned_away: Mapping[str, int] = field(default_factory=dict)
    """How many candidates were never trained, by the limit that they broke."""
    confirmations: tuple[Confirmation, ...] = ()
    """By trial and repeat."""
    task: str = ""
    """The task type as understood; empty before it is."""
    metric: Objective = ACCURACY
    """What scores are."""

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What the plan optimises."""
        return objectives_named(self.plan.objectives, self.metric)

    @property
    def of_task(self) -> tuple[str, ...]:
        """Those of a training's settings about heads and inputs that its task has; all where nobody remembered."""
        return tuple(self.facts.get("settings", OF_TASKS))

    @property
    def trivial(self) -> float | None:
        """The score of the worst baseline that answers every row alike, which anything has to beat; None where no
        baseline is known.
        """
        known = [each for each in self.baselines.values() if math.isfinite(each.score) and each.rows is None]
        alike = [each for each in known if each.seconds is None] or known
        return min((each.score for each in alike), key=lambda score: self.metric.sign * score, default=None)

    @property
    def ended_by_time(self) -> bool:
        """Whether the search ended because its time was over, before it had all its trials."""
        if self.ended is None or self.plan.time is None:
            return False
        return self.plan.trials is None or sum(each.outcome is not None for each in self.trials) < self.plan.trials
