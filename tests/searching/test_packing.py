"""Trials share a GPU by their predicted memory: one logical GPU of Ray for the whole file, workers that train nothing.

That several processes keep within a real GPU's memory is not tested here.
"""

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import ray.cloudpickle
import torch

from autopeft.searching.on_ray import train_on_ray
from autopeft.space.candidate import Candidate, Part
from autopeft.trial import Outcome, Rung, Status, Trial
from tests.searching import toys
from tests.searching.toys import ToyLedger, trial

GIB = 1024**3
DEVICE = 16 * GIB
SMALL, HALF, LARGE = GIB // 2, 4 * GIB, 10 * GIB
HERE = sys.modules[__name__]


@pytest.fixture(scope="module", autouse=True)
def _running() -> Iterator[None]:
    for module in (toys, HERE):
        ray.cloudpickle.register_pickle_by_value(module)
    ray.init(
        num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 1024 * 1024
    )
    yield
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(HERE)


class SharingWorker:
    """One rung, and an outcome that tells what the worker has and when it trained."""

    def __init__(self) -> None:
        self.facts = {"process": os.getpid()}
        self.spent = False

    def train(self, trial: Trial) -> Iterator[Rung | Outcome]:
        began = time.time()
        does = trial.candidate.name
        try:
            yield Rung(1, 1, 0.5, 0.02, 1.0, 1.0)
            if does == "meet":
                self._meet(trial)
            facts = {
                "gpus": ray.get_runtime_context().get_assigned_resources()["GPU"],
                "threads": torch.get_num_threads(),
                "began": began,
                "ended": time.time(),
            }
            yield Outcome(Status.FINISHED, does, 0.1, facts=self.facts | facts)
        finally:
            if does == "break on leaving":
                raise RuntimeError("the backbone cannot be restored")
            if does == "die on leaving":
                os.kill(os.getpid(), signal.SIGKILL)

    def _meet(self, trial: Trial) -> None:
        """Waits for three others."""
        place = Path(str(trial.candidate.parts[0].settings["place"]))
        (place / str(trial.number)).touch()
        until = time.monotonic() + 120
        while len(list(place.iterdir())) < 4:
            if time.monotonic() > until:
                raise TimeoutError("the others did not come")
            time.sleep(0.05)


def sized(number: int, memory: int, does: str = "finish", place: Path | None = None) -> Trial:
    toy = trial(number, does)
    candidate = Candidate(does, (Part(does, {"place": str(place)}),))
    return replace(toy, candidate=candidate, predicted=replace(toy.predicted, memory=memory))


def run(trials: list[Trial], stops: frozenset[int] = frozenset()) -> ToyLedger:
    ledger = ToyLedger(trials, stops)
    train_on_ray(ledger, SharingWorker, device_memory=DEVICE)
    return ledger


def test_small_trials_train_at_once_on_one_gpu(tmp_path: Path) -> None:
    ledger = run([sized(number, SMALL, "meet", tmp_path) for number in range(1, 5)])
    assert ledger.statuses() == {number: [Status.FINISHED] for number in range(1, 5)}
    assert len({outcome.facts["process"] for (outcome,) in ledger.outcomes.values()}) == 4


def test_large_and_small_trials_all_end_and_a_large_one_has_the_gpu_to_itself() -> None:
    sizes = {1: SMALL, 2: LARGE, 3: 2 * DEVICE, 4: HALF}
    ledger = run([sized(number, size) for number, size in sizes.items()])
    assert ledger.statuses() == {number: [Status.FINISHED] for number in sizes}
    facts = {number: outcome.facts for number, (outcome,) in ledger.outcomes.items()}
    assert {number: each["gpus"] for number, each in facts.items()} == {1: 1 / 8, 2: 1, 3: 1, 4: 1 / 2}
    assert {number: each["threads"] for number, each in facts.items()} == {1: 1, 2: 4, 3: 4, 4: 2}
    assert facts[2]["process"] == facts[3]["process"]
    for one, other in itertools.pairwise(sizes):
        assert facts[one]["ended"] <= facts[other]["began"]


@pytest.mark.long
def test_a_worker_that_breaks_between_two_trials_keeps_no_part_of_the_gpu() -> None:
    trials = [sized(1, LARGE, "break on leaving"), sized(2, LARGE), sized(3, LARGE), sized(4, SMALL)]
    ledger = run(trials, stops=frozenset({1}))
    assert ledger.statuses() == {
        1: [Status.STOPPED],
        2: [Status.FAILED],
        3: [Status.FINISHED],
        4: [Status.FINISHED],
    }
    assert "the backbone cannot be restored" in ledger.outcomes[2][0].reason


@pytest.mark.long
def test_a_worker_that_dies_between_two_trials_keeps_no_part_of_the_gpu() -> None:
    trials = [sized(1, LARGE, "die on leaving"), sized(2, LARGE), sized(3, LARGE), sized(4, SMALL)]
    ledger = run(trials, stops=frozenset({1}))
    assert ledger.statuses() == {1: [Status.STOPPED], 2: [Status.LOST], 3: [Status.FINISHED], 4: [Status.FINISHED]}


@pytest.mark.parametrize("gpus_per_trial", [None, pytest.param(0.25, marks=pytest.mark.long)])
def test_a_trial_that_is_to_be_alone_shares_its_gpu_with_none_and_outcomes_tell_the_part(
    gpus_per_trial: float | None,
) -> None:
    part = gpus_per_trial or 1 / 8
    ledger = ToyLedger([sized(1, SMALL), replace(sized(2, SMALL), alone=True), sized(3, SMALL)])
    train_on_ray(ledger, SharingWorker, gpus_per_trial=gpus_per_trial, device_memory=DEVICE)
    facts = {number: outcome.facts for number, (outcome,) in ledger.outcomes.items()}
    assert {number: (each["gpus"], each["device_part"]) for number, each in facts.items()} == {
        1: (part, part),
        2: (1, 1),
        3: (part, part),
    }
    assert facts[1]["ended"] <= facts[2]["began"]
    assert facts[2]["ended"] <= facts[3]["began"]


def test_parts_that_the_user_asks_for_come_before_predicted_ones() -> None:
    ledger = ToyLedger([sized(1, SMALL)])
    train_on_ray(ledger, SharingWorker, gpus_per_trial=0.5, device_memory=DEVICE)
    assert ledger.outcomes[1][0].facts["gpus"] == 0.5


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine knows its GPU's memory")
def test_trials_get_whole_gpus_where_their_memory_is_not_known() -> None:
    ledger = ToyLedger([sized(1, SMALL)])
    train_on_ray(ledger, SharingWorker)
    assert ledger.outcomes[1][0].facts["gpus"] == 1
