"""What an error that ended a trial says of memory, of the disk, and of the process that it was raised in. Pure.

A GPU tells most of its errors late and by their text alone, and after most of them its process can compute nothing any
more: whatever it is asked next fails as well. So an error of a GPU counts as one of these unless it is known to be
harmless; a new process costs no more than loading the backbone.
"""

import errno
import re
from collections.abc import Iterator
from enum import Enum

import torch


class Fault(Enum):
    """What an error means beyond the trial that it ended."""

    MEMORY = "memory"
    """There was too little memory; the process goes on."""
    DEVICE = "device"
    """The process can compute nothing any more on its device."""
    DISK = "disk"
    """A file could not be written for lack of room, which says nothing of the trial."""
    OTHER = "other"


_MEMORY = re.compile(
    r"CUDA out of memory|\b(?:CUDA|HIP|driver) error: out of memory|backend out of memory|hipErrorOutOfMemory"
    r"|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY|_STATUS_ALLOC_FAILED"
    r"|DefaultCPUAllocator: can't allocate memory"
)
_DEVICE = re.compile(
    r"\b(?:CUDA|HIP)(?: driver)? error: |device-side assert|illegal memory access|unspecified launch failure"
    r"|uncorrectable ECC error|\bCUDA_ERROR_|_STATUS_(?:EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)\b"
)
_DISK = re.compile(r"No space left on device|Disk quota exceeded|\(os error (?:27|28|122)\)")
"""Libraries tell of it by errors of their own."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HARMLESS = re.compile(
    r"error: (?:invalid argument|invalid configuration argument|invalid device function|operation not supported"
    r"|no kernel image is available|too many resources requested for launch)"
)
"""Refused before anything ran."""


def fault_of(error: BaseException) -> Fault:
    """What an error means, and those that it was raised from or while handling."""
    found = [_fault_of(each) for each in _chain(error)]
    return next((fault for fault in (Fault.DEVICE, Fault.MEMORY, Fault.DISK) if fault in found), Fault.OTHER)


def _fault_of(error: BaseException) -> Fault:
    """What one error means by itself; a text of memory often has the form of an error of the device."""
    if _is_memory(error):
        return Fault.MEMORY
    if _is_device(error):
        return Fault.DEVICE
    return Fault.DISK if _is_disk(error) else Fault.OTHER


def _is_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return _DISK.search(str(error)) is not None


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _MEMORY.search(str(error)) is not None


def _is_device(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, RuntimeError) and _DEVICE.search(text) is not None and _HARMLESS.search(text) is None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
