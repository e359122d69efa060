"""Whatever a trial does, its worker answers, leaves the backbone bit for bit, and trains the next one."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from autopeft.artifacts import load
from autopeft.plan import Plan
from autopeft.searching.correction import ran_out_of_memory
from autopeft.searching.preparation import prepare
from autopeft.searching.worker import TrainingWorker
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.training import precision
from autopeft.trial import Costs, Outcome, Rung, Status, Trial
from tests.user import user_folder

LORA = Candidate("lora", (Part("lora", {"rank": 4}, 1e-2),), Training(batch_size=16, epochs=2))


def trial(number: int = 1, candidate: Candidate = LORA) -> Trial:
    return Trial(number, candidate, Costs(1, 1, 1, 1), {}, seed=5)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> TrainingWorker:
    folder = user_folder(tmp_path_factory.mktemp("user"))
    plan = Plan(str(folder / "model"), str(folder / "reviews.csv"), space="quick", max_length=16)
    return prepare(plan, folder / "runs", "mine", lambda _: None).job()


@pytest.fixture(autouse=True)
def _backbone_is_unchanged(worker: TrainingWorker) -> Iterator[None]:
    model = worker._backbone.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    yield
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def outcome(worker: TrainingWorker, asked: Trial) -> Outcome:
    *rungs, last = worker.train(asked)
    assert all(isinstance(rung, Rung) for rung in rungs)
    assert isinstance(last, Outcome)
    return last


def test_a_trained_trial_can_be_loaded_and_is_as_accurate_as_it_said(worker: TrainingWorker) -> None:
    *rungs, last = worker.train(trial())
    assert isinstance(last, Outcome)
    assert isinstance(rungs[-1], Rung)
    assert (last.status, last.reason) == (Status.FINISHED, "")
    assert last.measured is not None
    trained = load(worker._job.artifacts.parent / last.artifact)
    data = worker._validation
    answers = torch.cat([trained.model(data.batch([row])).argmax(-1) for row in range(len(data))])
    assert (answers.numpy() == data.targets.values).mean() == rungs[-1].score


def test_what_a_trial_computed_of_frozen_layers_serves_the_next_one_and_is_told(worker: TrainingWorker) -> None:
    top = Candidate("top_layers", (Part("top_layers", {"count": 1}, 1e-3),), Training(batch_size=16, epochs=2))
    first, again, lora = (outcome(worker, trial(number, each)) for number, each in ((1, top), (2, top), (3, LORA)))
    assert first.answers is not None
    assert again.answers is not None
    assert first.answers.score == again.answers.score
    assert first.facts["frozen_layers"] == len(worker._backbone.sites.layers) - 1
    assert first.facts["kept_states"] == again.facts["kept_states"] == worker._states.bytes > 0
    assert (lora.facts["frozen_layers"], lora.facts["kept_states"]) == (0, 0)


@pytest.mark.parametrize("has_it", [True, False])
def test_a_loaded_trial_predicts_in_the_precision_that_its_score_was_measured_in(
    has_it: bool, worker: TrainingWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda _: has_it)
    *rungs, last = worker.train(trial())
    assert isinstance(last, Outcome)
    assert isinstance(rungs[-1], Rung)
    trained = load(worker._job.artifacts.parent / last.artifact)
    assert trained.description.precision == ("bfloat16" if has_it else "float32")
    data = worker._validation
    words = [data.columns["input_ids"][row] for row in range(len(data))]
    predicted = trained.predict([trained.backbone.tokenizer.decode(each) for each in words])
    classes = trained.task.classes  # type: ignore[attr-defined]
    right = [classes[label] == each for label, each in zip(data.targets.values, predicted, strict=True)]
    assert sum(right) / len(right) == pytest.approx(rungs[-1].score)
    assert trained.description.fingerprint == worker._backbone.fingerprint


def test_the_same_trial_gives_the_same_weights(worker: TrainingWorker) -> None:
    runs = worker._job.artifacts.parent
    first, second = (load(runs / outcome(worker, trial(number)).artifact) for number in (2, 3))
    assert first.logits(["the film was good"]).equal(second.logits(["the film was good"]))


def raising(error: Exception) -> Callable[..., Iterator[Rung]]:
    def train(*_: object, **__: object) -> Iterator[Rung]:
        yield Rung(1, 2, 0.5, 0.02, 0.7, 0.1)
        raise error

    return train


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory: CUDA out of memory."),
        (MemoryError("no more"), "out of memory: no more"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory: [enforce fail]"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "out of memory: CUDA error: CUBLAS_"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_a_fault_is_an_outcome_with_its_reason_and_the_next_trial_trains(
    worker: TrainingWorker, error: Exception, reason: str
) -> None:
    with patch("autopeft.searching.worker.train", raising(error)):
        failed = outcome(worker, trial())
    assert failed.status is Status.FAILED
    assert failed.reason.startswith(reason)
    assert failed.artifact == ""
    assert not worker.spent
    assert outcome(worker, trial(4)).status is Status.FINISHED


def test_a_full_disk_is_no_failure_of_the_trial(worker: TrainingWorker) -> None:
    with patch(
        "autopeft.searching.pausing.save_artifact", side_effect=OSError(errno.ENOSPC, "No space left on device")
    ):
        lost = outcome(worker, trial())
    assert (lost.status, lost.reason) == (Status.LOST, "OSError: [Errno 28] No space left on device")
    assert (lost.artifact, worker.spent) == ("", False)


def test_after_an_error_of_the_device_the_worker_says_that_it_is_spent(worker: TrainingWorker) -> None:
    broken = RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`")
    with patch("autopeft.searching.worker.train", raising(broken)), patch.object(worker, "spent", False):
        failed = outcome(worker, trial())
        assert worker.spent
    assert (failed.status, failed.reason) == (Status.FAILED, f"RuntimeError: {broken}")


@pytest.mark.parametrize("error", [MemoryError("no more"), torch.OutOfMemoryError("CUDA out of memory.")])
def test_a_lack_of_memory_is_known_as_such_with_the_memory_of_the_device(
    worker: TrainingWorker, error: Exception
) -> None:
    with patch("autopeft.searching.worker.train", raising(error)):
        failed = outcome(worker, trial())
    assert ran_out_of_memory(failed)
    assert failed.facts["device_memory"] > 2**28


@pytest.mark.parametrize("name", ["fishmask", "far", "sparse_adapter", "lora"])
def test_a_look_at_data_before_training_is_timed_and_counted(worker: TrainingWorker, name: str) -> None:
    candidate = Candidate(name, (Part(name, learning_rate=1e-3),), Training(batch_size=16, epochs=0.2))
    last = outcome(worker, trial(candidate=candidate))
    assert last.status is Status.FINISHED
    assert last.measured is not None
    assert (last.measured.set_up_flops or 0) > 0 or name == "lora"
    assert 0 <= last.facts["set_up_seconds"] < last.seconds


def test_a_divergence_is_an_outcome(worker: TrainingWorker) -> None:
    wild = replace(LORA, parts=(replace(LORA.parts[0], learning_rate=1e38),))
    failed = outcome(worker, trial(candidate=wild))
    assert failed.status is Status.FAILED
    assert "no longer finite at step" in failed.reason


def test_a_method_that_cannot_go_on_the_backbone_is_an_outcome(worker: TrainingWorker) -> None:
    twice = replace(LORA, parts=(Part("prompt_tuning"), Part("prompt_tuning")))
    assert outcome(worker, trial(candidate=twice)).status is Status.FAILED


def test_a_trial_that_is_closed_early_leaves_no_weights(worker: TrainingWorker) -> None:
    training = worker.train(trial(7))
    assert isinstance(next(training), Rung)
    training.close()  # type: ignore[attr-defined]
    assert not (Path(worker._job.artifacts) / "0007").exists()
