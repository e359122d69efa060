"""States of a frozen layer for every row of some splits, kept beside memory: computed once, read in every later pass.

They lie in a file without a name, mapped into memory, which the operating system takes back with the process however it
ends; its pages are the first that go when memory is short. Its bytes are there before anything is written, so that no
write can fail. Rows are known by their numbers; of a row of a text only its own tokens are kept, in the dtype in which
they were computed. Batches get padding back as zeros.
"""

import mmap
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autopeft import machine
from autopeft.data.store import Column, Dataset

ROWS = "rows"
"""Name in a batch: the numbers by which states of its rows are kept."""
OF_MEMORY, OF_DISK = 0.25, 0.25
"""Shares of what is free of memory and disk that the workers of a machine may fill with kept states, all together."""
_LIMITED, _USED, _USES = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current", "stat"))
_MEMORY = Path("/proc/meminfo")


def numbered(splits: Sequence[Dataset]) -> tuple[Dataset, ...]:
    """The same splits, whose batches say the numbers of their rows: from 0, one split after the other."""
    first = np.cumsum([0, *map(len, splits)])
    return tuple(
        replace(split, columns={**split.columns, ROWS: Column(np.arange(start, start + len(split)))})
        for start, split in zip(first, splits, strict=False)
    )


def room(memory: int, disk: int, held: int, share: float) -> int:
    """Bytes of states that a worker may still keep: `memory` and `disk` are free, `held` it keeps already, and `share`
    of the machine is its own.
    """
    return max(0, int(share * min(OF_MEMORY * memory, OF_DISK * (disk + held))) - held)


def own_share() -> float:
    """What of the machine belongs to this process: as much as of its cores."""
    return min(1.0, torch.get_num_threads() / machine.cores())


class KeptStates:
    """States behind one layer, by rows."""

    def __init__(self, lengths: np.ndarray | None, rows: int, like: Tensor) -> None:
        """`lengths` are those of the rows' texts; None where all rows are as long as those of `like`, (rows, …) states.

        Raises OSError where the disk has no room.
        """
        self._lengths = lengths
        self._held = np.zeros(rows, dtype=bool)
        self._block = like.shape[1:] if lengths is None else like.shape[2:]
        entries = rows if lengths is None else int(lengths.sum())
        self._ends = None if lengths is None else np.cumsum(lengths)
        self.bytes = bytes_of(lengths, rows, like)
        self._values = _mapped(self.bytes).view(like.dtype).view(entries, *self._block)

    def has(self, rows: np.ndarray) -> bool:
        """Whether all of these rows are kept."""
        return bool(self._held[rows].all())

    def put(self, rows: np.ndarray, states: Tensor) -> None:
        """Keeps the states of a batch, padded on the right."""
        for row, own in zip(rows, states.detach().to("cpu"), strict=True):
            place = self._place(row)
            place.copy_(own[: len(place)])
        self._held[rows] = True

    def get(self, rows: np.ndarray, length: int, padding: float = 0.0) -> Tensor:
        """A batch of kept states; texts are padded on the right to this length, with values up to `padding`."""
        if self._lengths is None:
            return self._values.index_select(0, torch.from_numpy(rows))
        filling = torch.linspace(-padding, padding, self._block[-1], dtype=self._values.dtype)
        states = filling.expand(len(rows), length, *self._block).clone()
        for row, own in zip(rows, states, strict=True):
            place = self._place(row)
            own[: len(place)] = place
        return states

    def _place(self, row: int) -> Tensor:
        if self._lengths is None or self._ends is None:
            return self._values[row]
        return self._values[self._ends[row] - self._lengths[row] : self._ends[row]]


def bytes_of(lengths: np.ndarray | None, rows: int, like: Tensor) -> int:
    """What all states would take."""
    one = like[0] if lengths is None else like[0, 0]
    return (rows if lengths is None else int(lengths.sum())) * one.numel() * like.element_size()


def free() -> Mapping[str, int]:
    """Bytes of memory that could be had, and of the disk of temporary files."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, StopIteration):
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
        memory = 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    # A container without a limit says "max"; what it read from files and uses no more is as good as free.
    with suppress(OSError, ValueError, KeyError):
        uses = dict(line.split() for line in _USES.read_text(encoding="ascii").splitlines())
        used = int(_USED.read_text(encoding="ascii")) - int(uses["inactive_file"])
        memory = min(memory, max(0, int(_LIMITED.read_text(encoding="ascii")) - used))
    return {"memory": min(memory, machine.memory()), "disk": shutil.disk_usage(tempfile.gettempdir()).free}


def _mapped(size: int) -> Tensor:
    """(size,) bytes of a file that nobody else sees."""
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.uint8)
