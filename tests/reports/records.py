"""Synthetic searches for the reports: a small one whose every number is known, and the odd ones."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from autopeft.objectives import score_of
from autopeft.plan import Budget, Plan
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.trial import Answers, Baseline, Confirmation, Costs, Outcome, Rung, SearchRecord, Status, Trial

CREATED = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
MIB = 1024**2

LORA = Candidate(
    "lora", (Part("lora", {"rank": 8, "alpha": 16, "dropout": 0.0, "sites": ("q", "v"), "layers": "all"}, 2e-3),)
)
BITFIT = Candidate(
    "bitfit", (Part("bitfit", {"biases": "all", "layers": "last 50%"}, 4e-3, 0.01),), Training(batch_size=16)
)
ADAPTER = Candidate("adapter", (Part("adapter", {"bottleneck": 64, "scale": 4.0, "layers": "all"}, 1e-3),))
HYBRID = Candidate(
    "lora_parallel",
    (Part("lora", {"rank": 4, "sites": ("q", "v")}, 1e-3), Part("adapter", {"bottleneck": 16}, 5e-4)),
    Training(micro_batch_size=8, gradient_checkpointing=True),
)


def error_of(accuracy: float, rows: int = 872) -> float:
    """Of a fraction of right answers."""
    return math.sqrt(accuracy * (1 - accuracy) / rows) if 0 <= accuracy <= 1 else math.nan


def baselines(majority: float, probe: float) -> dict[str, Baseline]:
    """Those of a text classification."""
    named = {"majority class": majority, "linear probe": probe}
    return {name: Baseline(score, error_of(score)) for name, score in named.items()}


def trial(
    number: int,
    candidate: Candidate = LORA,
    accuracies: tuple[float, ...] = (0.7, 0.8),
    trainable: int = 73_728,
    memory: int = 402 * MIB,
    status: Status = Status.FINISHED,
    reason: str = "",
    measured: int | None = None,
    seconds: float = 42.0,
) -> Trial:
    """One trial; its costs follow from trainable parameters and memory."""
    steps = 30 * len(accuracies)
    curve = tuple(Rung(30 * i, steps, value, error_of(value), 1 / i, 10.0 * i) for i, value in enumerate(accuracies, 1))
    costs = Costs(trainable, memory, 4 * trainable, 10**9)
    outcome = None
    if status is not Status.TRAINING:
        seen = Costs(trainable, measured, 4 * trainable, 10**9) if measured is not None else None
        outcome = Outcome(status, reason, seconds, seen, facts={"device": "cpu"})
    ended = CREATED + timedelta(seconds=60 * number) if outcome else None
    return Trial(
        number, candidate, costs, {"method": candidate.name}, 100 + number, status, curve, outcome, CREATED, ended
    )


def confirmation(
    number: int, repeat: int = 1, validation: float = 0.8, test: float | None = 0.78, rows: int = 400
) -> Confirmation:
    """One confirmation; the rows that it answers wrongly are the last ones, moved on by one for each repeat."""

    def answers(accuracy: float) -> Answers:
        return Answers.of(accuracy, np.roll(np.arange(rows) < round(accuracy * rows), repeat))

    return Confirmation(
        number,
        repeat,
        1000 + repeat,
        Status.FINISHED,
        seconds=40.0,
        step=90,
        validation=answers(validation),
        test=answers(test) if test is not None else None,
        facts={"device": "cpu"},
        finished=CREATED + timedelta(minutes=20 + repeat),
    )


def record() -> SearchRecord:
    """Four on the front, three of them confirmed, one dominated, two failed for the same reason, one still training."""
    return SearchRecord(
        "sst2-20261124-1530",
        Plan("mini", "sst2.csv", budget=Budget(memory="1GiB", trainable="1%"), trials=8),
        CREATED,
        (
            trial(1, LORA, (0.70, 0.82, 0.861), measured=404 * MIB),
            trial(2, BITFIT, (0.65, 0.840), trainable=20_000, memory=350 * MIB, seconds=31.0),
            trial(
                3,
                ADAPTER,
                (),
                status=Status.FAILED,
                reason="out of memory: tried to allocate 2 GiB\nat line 3",
                seconds=2.0,
            ),
            trial(4, HYBRID, (0.71, 0.85, 0.872), trainable=150_000, memory=510 * MIB, seconds=75.0),
            trial(5, ADAPTER, (0.60, 0.830), trainable=300_000, memory=480 * MIB, seconds=50.0),
            trial(6, LORA, (0.55, 0.80), trainable=9_000, memory=360 * MIB, seconds=20.0),
            trial(
                7,
                ADAPTER,
                (),
                status=Status.FAILED,
                reason="out of memory: tried to allocate 2 GiB\nat line 9",
                seconds=2.0,
            ),
            trial(8, HYBRID, (0.60,), trainable=140_000, memory=500 * MIB, status=Status.TRAINING),
        ),
        baselines(0.509, 0.812),
        CREATED + timedelta(minutes=12, seconds=4),
        {
            "data": ["text-classification: sentence -> label", "rows: 6,920 train, 872 validation"],
            "labels": ["negative", "positive"],
            "train_rows": 6920,
            "validation_rows": 872,
            "backbone": "mini",
            "backbone_parameters": 22_565_376,
            "batch_length": 64,
            "versions": {"torch": "2.13.0", "peft": "0.21.2"},
            "workers": 2,
        },
        {"memory": 12, "trainable": 2},
        tuple(
            confirmation(number, repeat, accuracy + 0.005 * repeat, accuracy - 0.01 + 0.005 * repeat)
            for number, accuracy in ((1, 0.84), (2, 0.76), (4, 0.85))
            for repeat in (1, 2, 3)
        ),
        "text-classification",
    )


def bare(*trials: Trial, ended: bool = True) -> SearchRecord:
    """A search of which nothing but its trials is known."""
    return SearchRecord("bare", Plan("mini", "data.csv"), CREATED, trials, ended=CREATED if ended else None)


def of_a_loss() -> SearchRecord:
    """The same search judged by a loss: less is better, and there is no best."""

    def loss(score: float) -> float:
        return 30 - 20 * score

    def turned(answers: Answers | None) -> Answers | None:
        return answers and Answers.of(loss(answers.score), 30 - 20 * answers.of_rows)

    whole = record()
    return replace(
        whole,
        plan=replace(whole.plan, metric="loss", budget=replace(whole.plan.budget, score=12.5)),
        trials=tuple(
            replace(each, curve=tuple(replace(rung, score=loss(rung.score), error=0.4) for rung in each.curve))
            for each in whole.trials
        ),
        confirmations=tuple(
            replace(each, validation=turned(each.validation), test=turned(each.test)) for each in whole.confirmations
        ),
        baselines={"mean": Baseline(19.82, 0.31), "linear probe": Baseline(13.7612, 0.2612, 3.5)},
        task="text-regression",
        metric=score_of("loss", "cross-entropy", higher_is_better=False, ideal=None),
    )
