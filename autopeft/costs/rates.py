"""How fast this device is, measured in a quarter of a second: where predicted seconds begin, before a trial has told.

Three things are timed, as trainings do them: a matrix product in the precision of trainings, a walk through memory, and
an operation on nearly nothing. Not covered: what else runs on the device meanwhile.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from autopeft.training.precision import autocast

_SECONDS = 0.06
"""For each of three measurements."""
_SIZE = {"cpu": 384, "cuda": 4096}
"""Of square matrices."""
_WALKED = {"cpu": 2**21, "cuda": 2**26}
"""Bytes of a tensor that is walked through: as activations of a batch are on a CPU, more than any cache on a GPU."""


@dataclass(frozen=True)
class Rates:
    """Seconds that a device takes for a unit of each kind of work."""

    flop: float
    byte: float
    operation: float


USUAL = Rates(flop=1e-11, byte=5e-11, operation=5e-6)
"""Of a core, about: for what must be the same on every machine and at any moment."""


def rates_of(device: torch.device, threads: int | None = None) -> Rates:
    """Measured now; on a CPU with so many threads, where they are given."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return _measured(device)
    finally:
        torch.set_num_threads(before)
        if device.type == "cuda":
            torch.cuda.empty_cache()


@torch.no_grad()
def _measured(device: torch.device) -> Rates:
    size, entries = _SIZE[device.type], _WALKED[device.type] // 4
    with autocast(device):
        dtype = (torch.ones(1, 1, device=device) @ torch.ones(1, 1, device=device)).dtype
    one = torch.ones(size, size, device=device, dtype=dtype)
    long, short = torch.ones(entries, device=device), torch.ones(8, device=device)
    operation = _timed(lambda: short + short, device)
    walk = _timed(lambda: long + long, device)
    product = _timed(lambda: one @ one, device)
    return Rates(product / (2 * size**3), walk / (12 * entries), operation)


def _timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one of many runs after one another; the fastest group of them counts."""
    run()
    best, count, ends = float("inf"), 1, time.perf_counter() + _SECONDS
    while time.perf_counter() < ends:
        began = time.perf_counter()
        for _ in range(count):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - began
        best = min(best, taken / count)
        count = min(2 * count, 64) if taken < _SECONDS / 16 else count
    return best
