"""Ray Tune passes on what the ledger says, and nothing that a worker does ends a search. One Ray for the whole file."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import ray
import ray.cloudpickle

from autopeft.errors import AutopeftError
from autopeft.searching.on_ray import train_on_ray
from autopeft.searching.running import running_ray
from autopeft.tasks import own
from autopeft.trial import Status, Trial
from tests.searching import toys
from tests.searching.toys import FaultyLedger, ToyLedger, ToyWorker, broken_worker, trial


@pytest.fixture(scope="module", autouse=True)
def _running() -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(toys)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 1024 * 1024)
    yield
    ray.shutdown()


def test_every_trial_reaches_its_rungs_and_one_outcome_on_reused_workers() -> None:
    ledger = ToyLedger([trial(number) for number in range(1, 11)])
    train_on_ray(ledger, ToyWorker, workers=2)
    assert ledger.statuses() == {number: [Status.FINISHED] for number in range(1, 11)}
    assert sorted(ledger.heard) == [(number, step) for number in range(1, 11) for step in (1, 2, 3)]
    processes = {outcome.facts["process"] for (outcome,) in ledger.outcomes.values()}
    assert 1 <= len(processes) <= 2
    assert os.getpid() not in processes
    assert sum(outcome.facts["before"] for (outcome,) in ledger.outcomes.values()) >= 20


@pytest.mark.parametrize(
    ("does", "status", "why"),
    [
        ("die", Status.LOST, "the worker was lost"),
        ("crash", Status.FAILED, "the worker failed: RuntimeError: an error that the worker did not catch"),
    ],
)
def test_a_lost_worker_loses_one_trial_and_the_search_goes_on(does: str, status: Status, why: str) -> None:
    ledger = ToyLedger([trial(1), trial(2, does), trial(3, "fail"), trial(4)])
    train_on_ray(ledger, ToyWorker, workers=1)
    assert ledger.statuses() == {1: [Status.FINISHED], 2: [status], 3: [Status.FAILED], 4: [Status.FINISHED]}
    assert why in ledger.outcomes[2][0].reason
    assert ledger.outcomes[3][0].reason == "fail"
    assert "\n" not in ledger.outcomes[2][0].reason


def test_code_of_a_users_own_goes_to_workers_also_without_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_named", {})
    (tmp_path / "making.py").write_text("from functools import cache\n\n\n@cache\ndef make(kind):\n    return kind()\n")
    make = own.bring(f"{tmp_path}/making.py:make", "metric")
    (tmp_path / "making.py").unlink()
    ledger = ToyLedger([trial(1)])
    train_on_ray(ledger, partial(make, ToyWorker), workers=1)
    assert ledger.statuses() == {1: [Status.FINISHED]}


def test_a_trial_that_is_given_again_is_trained_also_when_it_was_the_last() -> None:
    ledger = ToyLedger([trial(1), trial(2, "die")], again=frozenset({Status.LOST}))
    train_on_ray(ledger, ToyWorker, workers=1)
    assert ledger.given == [1, 2, 2]
    assert ledger.statuses() == {1: [Status.FINISHED], 2: [Status.LOST, Status.FINISHED]}


def test_a_process_that_an_error_left_useless_ends_after_its_outcome_and_another_trains_on() -> None:
    ledger = ToyLedger([trial(1), trial(2, "break the device"), trial(3), trial(4)])
    train_on_ray(ledger, ToyWorker, workers=1)
    assert ledger.statuses() == {1: [Status.FINISHED], 2: [Status.FAILED], 3: [Status.FINISHED], 4: [Status.FINISHED]}
    assert ledger.outcomes[2][0].reason == "break the device"
    processes = [ledger.outcomes[number][0].facts["process"] for number in (1, 2, 3, 4)]
    assert processes[0] == processes[1] != processes[2] == processes[3]
    assert not Path(f"/proc/{processes[1]}").exists()


def test_a_trial_that_the_ledger_stops_ends_there() -> None:
    ledger = ToyLedger([trial(1), trial(2), trial(3)], stops=frozenset({2}))
    train_on_ray(ledger, ToyWorker, workers=1)
    assert ledger.statuses() == {1: [Status.FINISHED], 2: [Status.STOPPED], 3: [Status.FINISHED]}
    assert [step for number, step in ledger.heard if number == 2] == [1]
    assert len({ledger.outcomes[number][0].facts["process"] for number in (1, 2, 3)}) == 1


@pytest.mark.parametrize("hangs", [pytest.param("linger", marks=pytest.mark.long), "hold on", "stop"])
def test_a_trial_that_hangs_is_ended_by_its_time_out_and_the_search_goes_on(hangs: str) -> None:
    ledger, began = ToyLedger([trial(1), trial(2, hangs), trial(3)]), time.monotonic()
    train_on_ray(ledger, ToyWorker, workers=1, timeout=3)
    assert time.monotonic() - began < 45, "nobody waited for the end of what hung"
    assert ledger.statuses() == {1: [Status.FINISHED], 2: [Status.FAILED], 3: [Status.FINISHED]}
    (lost,) = ledger.outcomes[2]
    assert lost.reason == "no rung was reached within the time-out of 3.0 s; its worker was ended"
    assert "process" in lost.facts
    assert [step for number, step in ledger.heard if number == 2] == [1]


def test_a_worker_that_cannot_start_is_answered() -> None:
    ledger = ToyLedger([trial(1), trial(2)])
    with pytest.raises(AutopeftError, match=r"a worker could not start: FileNotFoundError: no model at /nowhere"):
        train_on_ray(ledger, broken_worker, workers=1)
    assert not ledger.outcomes


def test_a_fault_of_the_ledger_comes_out_unchanged() -> None:
    with pytest.raises(OSError, match="no space left for trial 1"):
        train_on_ray(FaultyLedger([trial(1), trial(2)]), ToyWorker, workers=1)


def test_more_gpus_than_there_are_is_answered() -> None:
    with pytest.raises(AutopeftError, match="no machine has more than 0"):
        train_on_ray(ToyLedger([trial(1)]), ToyWorker, gpus_per_trial=1)


def test_a_cluster_that_cannot_be_joined_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> None:
        raise ConnectionError("Failed to connect.\nA long story")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refused)
    with pytest.raises(AutopeftError, match=r"^cannot join .* 'head:6379': Failed to connect\. .*RAY_AUTH_MODE=token"):
        train_on_ray(ToyLedger([trial(1)]), ToyWorker, workers=1, address="head:6379")


def test_signals_are_the_callers_again_when_ray_has_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def starts(**_: object) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", starts)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with running_ray(None, tmp_path):
        assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


def test_control_c_comes_through_at_once() -> None:
    ledger = ToyLedger([trial(1, "linger"), trial(2, "linger")])
    interrupt = threading.Timer(4, lambda: os.kill(os.getpid(), signal.SIGINT))
    interrupt.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train_on_ray(ledger, ToyWorker, workers=2)
    assert time.monotonic() - began < 50, "no trial was waited for"
    assert not ledger.outcomes


def test_an_interrupt_that_nobody_heard_is_raised_again() -> None:
    class Deaf(ToyLedger):
        def next(self) -> Trial | None:
            with suppress(KeyboardInterrupt):  # as a callback of a library does, whose exceptions go nowhere
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
            return super().next()

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_on_ray(Deaf([trial(1, "linger")]), ToyWorker, workers=1)
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_environment_is_as_before_afterwards() -> None:
    before = dict(os.environ)
    train_on_ray(ToyLedger([]), ToyWorker, workers=1)
    assert dict(os.environ) == before
