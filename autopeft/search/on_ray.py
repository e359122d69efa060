"""Trains on Ray: Ray Tune keeps workers busy with the ledger's trials, on this machine or on a cluster.

A worker is an actor that is reused from trial to trial, so that backbone and data are loaded once. Where trials get
parts of a GPU by their predicted memory, it is reused for trials of the same part, and ends when only others wait. Ray
Tune neither chooses trials nor remembers them: its searcher and its scheduler only pass on what the ledger says. A
worker that dies costs the one trial that it was training, and one that reports nothing for too long ends itself.
Interrupts and faults of the ledger come out of `train_on_ray` unchanged.
"""

import contextlib
import faulthandler
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from autopeft.errors import AutopeftError
from autopeft.search.allotment import Allotment, allot, pack
from autopeft.search.ledger import STOPPED_EARLY, Ledger, Worker
from autopeft.search.signals import handler_kept
from autopeft.sizes import show_seconds
from autopeft.trial import Outcome, Status, Trial

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
}
"""What Ray reads while it works for us: no files, no second display, no telemetry, Ctrl-C left to the caller."""
_OBJECTS = 100 * 1024 * 1024
"""Bytes of Ray's object store; a trial and its rungs are a few kilobytes."""


def train_on_ray(
    ledger: Ledger,
    new_worker: Callable[[], Worker],
    *,
    workers: int | None = None,
    gpus_per_trial: float | None = None,
    address: str | None = None,
    timeout: float | None = None,
    device_memory: int | None = None,
) -> None:
    """Trains whatever the ledger gives until it gives no more; no trial waits longer than `timeout` for its next rung.

    `new_worker` is pickled and called once in every worker process. Starts Ray here when no `address` of a cluster is
    given and Ray does not run in this process already. Where neither `workers` nor `gpus_per_trial` are given, trials
    share GPUs by their predicted memory; `device_memory` is the bytes of every GPU, by default those of the smallest
    GPU of this machine. Raises AutopeftError when workers cannot be had or cannot start.
    """
    with _environment(_QUIET), _quiet_logs(), _ray(address), tempfile.TemporaryDirectory(prefix="autopeft-") as folder:
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        whole = allot([node["Resources"] for node in nodes if node["Alive"]], workers, gpus_per_trial)
        packed = whole.gpus > 0 and workers is None and gpus_per_trial is None
        shares = _Shares(whole, (device_memory or _device_memory()) if packed else None)
        passing = _Passing(ledger, timeout, shares)
        trainable = tune.with_parameters(_Actor, new_worker=new_worker, shares=shares, timeout=timeout)
        tuner = tune.Tuner(
            tune.with_resources(trainable, shares.resources),
            tune_config=tune.TuneConfig(
                search_alg=_Suggesting(passing),
                scheduler=_Scheduling(passing),
                num_samples=-1,
                max_concurrent_trials=shares.at_once,
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                name="trials",
                verbose=0,
                stop=_Faulty(passing),
                callbacks=[_Starting(passing)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
        if passing.fault is not None:
            raise passing.fault


@dataclass(frozen=True)
class _Shares:
    """What each trial gets of the machines: as much as every other, or the part that it needs of a GPU."""

    whole: Allotment
    device: int | None
    """Bytes of a GPU; None where all trials get the same."""

    def of(self, trial: Trial) -> Allotment:
        return self.whole if self.device is None else pack(self.whole, trial.predicted.memory, self.device)

    @property
    def at_once(self) -> int:
        """Trials that train at a time, at most."""
        return self.whole.workers if self.device is None else pack(self.whole, 0, self.device).workers

    def portion(self, trial: Trial) -> float:
        """Of what one worker gets where all get the same."""
        return self.whole.workers / self.of(trial).workers

    def resources(self, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        share = self.of(config["trial"])
        return tune.PlacementGroupFactory([{"CPU": share.cpus, "GPU": share.gpus}])


@dataclass(frozen=True)
class _Said:
    """What a worker says in one step; Ray Tune would take a mapping apart."""

    item: Any
    """A rung, or the outcome."""
    facts: Mapping[str, Any]


class _Actor(tune.Trainable):
    """A worker process: each step is one rung of the trial, or its outcome."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], new_worker: Callable[[], Worker], shares: _Shares, timeout: float | None
    ) -> None:
        self._items: Iterator[Any] = iter(())
        self._timeout = timeout
        self._fault = ""
        try:
            _set_threads(shares.of(config["trial"]).threads)
            self._worker = new_worker()
        except Exception as error:
            self._fault = f"{type(error).__name__}: {error}"
        else:
            self._items = self._worker.train(config["trial"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Raises nothing: after an error between two trials Ray Tune would keep an idle worker, and its part of a GPU,
        for ever. The next step raises it.
        """
        try:
            self.cleanup()
            if not self._fault:
                self._items = self._worker.train(new_config["trial"])
        except Exception as error:
            self._items = _raising(error)
        return True

    def step(self) -> dict[str, Any]:
        if self._fault:
            return {"fault": self._fault, "done": True}
        with _ended_after(self._timeout):
            item = next(self._items)
        return {"said": _Said(item, self._worker.facts), "done": isinstance(item, Outcome)}

    def cleanup(self) -> None:
        if close := getattr(self._items, "close", None):
            close()


def _raising(error: Exception) -> Iterator[Any]:
    yield from ()
    raise error


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _device_memory() -> int | None:
    """Bytes of this machine's smallest GPU; None where it has none."""
    import torch

    devices = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return min((torch.cuda.get_device_properties(device).total_memory for device in devices), default=None)


@contextlib.contextmanager
def _ended_after(seconds: float | None) -> Iterator[None]:
    """Ends this process when the block takes longer, whatever hangs there: the clock is a thread without Python."""
    if seconds is not None:
        faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class _Passing:
    """Passes on between Ray Tune and the ledger. A fault of the ledger ends the run; Ray Tune would swallow it."""

    def __init__(self, ledger: Ledger, timeout: float | None, shares: _Shares) -> None:
        self._ledger = ledger
        self._timeout = timeout
        self._shares = shares
        self._portions: dict[int, float] = {}
        self._began: dict[int, float] = {}
        self._heard: dict[int, float] = {}
        self._facts: dict[int, Mapping[str, Any]] = {}
        self.fault: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune pickles a run so that it could be restored, and ours goes on from the database instead."""
        return {}

    @property
    def full(self) -> bool:
        """Whether the trials at hand ask for all there is. If more were at hand, small ones would go on overtaking one
        that waits for a whole GPU, and the sampler would propose trials long before they can train.
        """
        return sum(self._portions.values()) >= self._shares.whole.workers

    def next(self) -> Trial | None:
        trial = None
        with self._faults():
            trial = self._ledger.next()
            if trial is not None:
                self._began[trial.number] = self._heard[trial.number] = time.perf_counter()
                self._portions[trial.number] = self._shares.portion(trial)
        return trial

    def started(self, number: int) -> None:
        """Its worker is ready: what it waited for one does not count."""
        self._began[number] = self._heard[number] = time.perf_counter()

    def heard(self, number: int, result: Mapping[str, Any]) -> bool:
        """A rung; says whether the trial goes on."""
        goes_on = False
        said: _Said = result["said"]
        self._heard[number] = time.perf_counter()
        self._facts[number] = said.facts
        with self._faults():
            goes_on = self._ledger.rung(number, said.item)
            if not goes_on:
                self._ended(number, self._outcome(number, Status.STOPPED, STOPPED_EARLY))
        return goes_on

    def completed(self, number: int, result: Mapping[str, Any]) -> None:
        if "fault" in result:
            self.fault = AutopeftError(f"a worker could not start: {result['fault']}")
        elif isinstance(outcome := getattr(result.get("said"), "item", None), Outcome):
            self._ended(number, outcome)

    def lost(self, number: int, why: str) -> None:
        reason = f"the worker was lost: {why}"
        if self._timeout is not None and time.perf_counter() - self._heard[number] >= self._timeout:
            reason = f"no rung was reached within the time-out of {show_seconds(self._timeout)}; its worker was ended"
        self._ended(number, self._outcome(number, Status.FAILED, reason))

    def _ended(self, number: int, outcome: Outcome) -> None:
        with self._faults():
            self._ledger.ended(number, outcome)
            self._began.pop(number)
            self._portions.pop(number)

    def _outcome(self, number: int, status: Status, reason: str) -> Outcome:
        """An outcome that the worker did not make; its facts are those that came with the last rung."""
        return Outcome(status, reason, time.perf_counter() - self._began[number], facts=self._facts.get(number, {}))

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:
            self.fault = self.fault or fault


class _Suggesting(Searcher):
    def __init__(self, passing: _Passing) -> None:
        super().__init__()
        self._passing = passing

    def suggest(self, trial_id: str) -> Any:
        if self._passing.fault is None and self._passing.full:
            return None
        if self._passing.fault is not None or (trial := self._passing.next()) is None:
            return Searcher.FINISHED
        return {"trial": trial}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The scheduler has passed it on."""


class _Scheduling(FIFOScheduler):
    def __init__(self, passing: _Passing) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._passing = passing

    def on_trial_result(self, controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        goes_on = self._passing.heard(_number(trial), result)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def on_trial_complete(self, controller: Any, trial: RayTrial, result: dict[str, Any]) -> None:
        self._passing.completed(_number(trial), result)

    def on_trial_error(self, controller: Any, trial: RayTrial) -> None:
        self._passing.lost(_number(trial), _why(trial))


class _Starting(tune.Callback):
    def __init__(self, passing: _Passing) -> None:
        self._passing = passing

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        self._passing.started(_number(trial))


class _Faulty(tune.Stopper):
    """Ends the run after a fault."""

    def __init__(self, passing: _Passing) -> None:
        self._passing = passing

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._passing.fault is not None


def _number(trial: RayTrial) -> int:
    number: int = trial.config["trial"].number
    return number


def _name(trial: RayTrial) -> str:
    return f"trial-{_number(trial)}"


def _why(trial: RayTrial) -> str:
    """The last line of the error that Ray Tune left in a file: the exception itself, without its traceback."""
    try:
        lines = Path(trial.error_file).read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, TypeError):
        lines = []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "Ray gives no reason"


@contextlib.contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """Ray running; what was started or joined here is left again at the end, with all its workers."""
    if ray.is_initialized():
        yield
        return
    local: dict[str, Any] = {"num_cpus": _cores(), "include_dashboard": False, "object_store_memory": _OBJECTS}
    try:
        with handler_kept():
            ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False, **({} if address else local))
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"join the Ray cluster at '{address}'" if address else "start Ray"
        token = " A cluster that asks for a token wants RAY_AUTH_MODE=token set here, too." if address else ""
        raise AutopeftError(f"cannot {where}: {str(error).splitlines()[0].rstrip('.')}.{token}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _quiet_logs() -> Iterator[None]:
    """Ray reports lost trials, and files that it was told not to write; all that matters reaches the ledger."""
    loggers = [logging.getLogger("ray"), logging.getLogger("ray.tune")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of the environment, those that the user set excepted, and takes them away again."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
