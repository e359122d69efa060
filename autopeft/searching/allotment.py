"""How many trials train at a time, and what each gets of the machines. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autopeft.costs.room import CONTEXT, MARGIN
from autopeft.errors import AutopeftError

_PARTS = (1 / 8, 1 / 4, 1 / 2)
"""Parts of a GPU that several trials can share without leaving gaps."""


@dataclass(frozen=True)
class Allotment:
    """What every worker gets that trains trials of one size; a worker can be kept for trials of its size."""

    workers: int
    """How many train at a time."""
    cpus: float
    """Cores of one worker; a fraction where there are more workers than cores."""
    gpus: float

    @property
    def threads(self) -> int:
        """Threads of one worker's tensor operations."""
        return max(1, math.floor(self.cpus))


def allot(nodes: Sequence[Mapping[str, float]], workers: int | None, gpus_per_trial: float | None) -> Allotment:
    """Shares machines, each given by its `CPU` and `GPU` counts, among `workers`, or among as many as suit the
    machines.

    Raises AutopeftError when no machine has what one trial is to get.
    """
    cpus = [node.get("CPU", 0.0) for node in nodes]
    gpus = [node.get("GPU", 0.0) for node in nodes]
    if gpus_per_trial is None:
        gpus_per_trial = _gpus_each(sum(gpus), workers)
    if gpus_per_trial > max(gpus, default=0.0):
        raise AutopeftError(
            f"a trial is to get {gpus_per_trial:g} GPUs, but no machine has more than {max(gpus, default=0.0):g}."
        )
    at_once = sum(_fitting(have, gpus_per_trial) for have in gpus) if gpus_per_trial else math.floor(sum(cpus))
    workers = max(1, at_once) if workers is None else workers
    usable = [cpu for cpu, gpu in zip(cpus, gpus, strict=True) if gpu >= gpus_per_trial and cpu > 0]
    if not usable:
        raise AutopeftError("no machine has a core for a trial.")
    each = sum(usable) / workers
    return Allotment(workers, min(math.floor(each), math.floor(min(usable))) if each >= 1 else each, gpus_per_trial)


def part_of_gpu(memory: int, device: int) -> float:
    """The smallest of 1/8, 1/4, 1/2 and 1 of a GPU of `device` bytes that holds a trial predicted to take `memory`.

    Counted are the prediction, a quarter on top of it and 768 MiB for CUDA itself. A trial that the whole GPU would
    not hold is given the whole GPU.
    """
    needed = MARGIN * memory + CONTEXT
    return next((part for part in _PARTS if needed <= part * device), 1.0)


def pack(whole: Allotment, memory: int, device: int) -> Allotment:
    """The part of `whole`, which is one GPU of `device` bytes for each worker, that a trial predicted to take `memory`
    gets: a part of the GPU, the same part of its cores, and as many workers as there would be of this size.
    """
    part = part_of_gpu(memory, device)
    cpus = whole.cpus * part
    return Allotment(round(whole.workers / part), math.floor(cpus) if cpus >= 1 else cpus, part)


def alone(whole: Allotment, nodes: Sequence[Mapping[str, float]]) -> Allotment:
    """What a trial gets that shares its device with no other: a GPU, or all cores of one of the largest machines."""
    if whole.gpus:
        cpus = whole.cpus / min(whole.gpus, 1.0)
        gpus = max(whole.gpus, 1.0)
        workers = sum(_fitting(node.get("GPU", 0.0), gpus) for node in nodes)
        return Allotment(workers, math.floor(cpus) if cpus >= 1 else cpus, gpus)
    cores = [math.floor(node.get("CPU", 0.0)) for node in nodes]
    return Allotment(cores.count(max(cores)), max(cores), 0.0)


def part_of_device(given: Allotment, whole: Allotment) -> float:
    """The part of a device that a trial has which was given so much; `whole` is what one gets `alone`."""
    return min(1.0, given.gpus / whole.gpus if whole.gpus else given.cpus / whole.cpus)


def _gpus_each(gpus: float, workers: int | None) -> float:
    """One GPU each; an equal fraction where there are more workers than GPUs; none where there are none."""
    if gpus == 0:
        return 0.0
    return 1.0 if workers is None or workers <= gpus else 1 / math.ceil(workers / gpus)


def _fitting(have: float, each: float) -> int:
    """Ray gives no trial parts of several GPUs, so fractions are counted on each one."""
    return math.floor(have) * math.floor(1 / each) if each < 1 else math.floor(have / each)
