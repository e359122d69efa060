"""Trains on Ray: Ray Tune keeps workers busy with the ledger's trials, on this machine or on a cluster.

A worker is an actor that is reused from trial to trial, so that backbone and data are loaded once. Where trials get
parts of a GPU by their predicted memory, it is reused for trials of the same part, and ends when only others wait. Ray
Tune neither chooses trials nor remembers them: its searcher and its scheduler only pass on what the ledger says. A
worker that dies loses the one trial that it was training. One that reports nothing for too long ends itself, and where
it cannot (it may be stopped), the driver ends it. Interrupts and faults of the ledger come out of `train_on_ray`
unchanged.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from autopeft.searching.actor import Actor
from autopeft.searching.allotment import allot, alone
from autopeft.searching.carried import carried
from autopeft.searching.ledger import Ledger, Worker
from autopeft.searching.leftovers import own_folder
from autopeft.searching.passing import Passing
from autopeft.searching.running import running_ray
from autopeft.searching.shares import Shares, device_memory_here
from autopeft.searching.signals import insisted


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
    new_worker = carried(new_worker)
    with own_folder() as folder, insisted() as insist, running_ray(address, folder):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        whole = allot(nodes, workers, gpus_per_trial)
        packed = whole.gpus > 0 and workers is None and gpus_per_trial is None
        shares = Shares(whole, alone(whole, nodes), (device_memory or device_memory_here()) if packed else None)
        passing = Passing(ledger, timeout, shares)
        trainable = tune.with_parameters(Actor, new_worker=new_worker, shares=shares, timeout=timeout)
        tuner = tune.Tuner(
            tune.with_resources(trainable, shares.resources),
            tune_config=tune.TuneConfig(
                search_alg=_Suggesting(passing),
                scheduler=_Scheduling(passing),
                num_samples=-1,
                max_concurrent_trials=shares.at_once,
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_folder,
            ),
            run_config=tune.RunConfig(
                storage_path=str(folder),
                name="trials",
                verbose=0,
                stop=_Faulty(passing),
                callbacks=[_Watching(passing, insist)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
        insist()
        if passing.fault is not None:
            raise passing.fault


class _Suggesting(Searcher):
    def __init__(self, passing: Passing) -> None:
        super().__init__()
        self._passing = passing

    def suggest(self, trial_id: str) -> Any:
        if self._passing.fault is None and self._passing.full:
            return None
        if self._passing.fault is None and (trial := self._passing.next()) is not None:
            return {"trial": trial}
        # Ray Tune asks no more once it heard of the end, and one of those that train may have to be given again.
        return None if self._passing.fault is None and self._passing.busy else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The scheduler has passed it on."""


class _Scheduling(FIFOScheduler):
    def __init__(self, passing: Passing) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._passing = passing

    def on_trial_result(self, controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        goes_on = self._passing.heard(_number(trial), result)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def on_trial_complete(self, controller: Any, trial: RayTrial, result: dict[str, Any]) -> None:
        self._passing.completed(_number(trial), result)

    def on_trial_error(self, controller: Any, trial: RayTrial) -> None:
        if trial in controller._staged_trials:
            # Its worker died between two trials. Ray Tune would keep an idle worker for it, and its part of a GPU.
            controller._unstage_trial_with_resources(trial)
        self._passing.broke(_number(trial), _why(trial), lost=_lost(trial))


class _Watching(tune.Callback):
    """Sees when workers start, and ends those that are silent although they should have ended themselves; hears of
    signals.
    """

    def __init__(self, passing: Passing, insist: Callable[[], None]) -> None:
        self._passing = passing
        self._insist = insist

    def on_step_begin(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        self._insist()
        for trial in trials:
            worker = trial.temporary_state.ray_actor
            if worker is not None and self._passing.overdue(_number(trial)):
                ray.kill(worker)

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        self._passing.started(_number(trial))


class _Faulty(tune.Stopper):
    """Ends the run after a fault."""

    def __init__(self, passing: Passing) -> None:
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


def _folder(trial: RayTrial) -> str:
    """A trial that is given again is a new one to Ray Tune."""
    return f"{_name(trial)}-{trial.trial_id}"


def _lost(trial: RayTrial) -> bool:
    """Whether its worker is gone; else it raised an error."""
    try:
        with Path(trial.pickled_error_file).open("rb") as file:
            return isinstance(ray.cloudpickle.load(file), RayActorError)
    except Exception:
        # Errors of others' methods need not unpickle here; Ray's own do.
        return False


def _why(trial: RayTrial) -> str:
    """The last line of the error that Ray Tune left in a file: the exception itself, without its traceback."""
    try:
        lines = Path(trial.error_file).read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, TypeError):
        lines = []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "Ray gives no reason"
