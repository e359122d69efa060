"""What errors mean, as a table of what torch and its libraries say."""

import errno

import pytest
import torch
from safetensors import SafetensorError

from autopeft.errors import AutopeftError
from autopeft.searching.device_errors import Fault, fault_of

_MORE = (
    "\nSearch for `cudaError' in https://docs.nvidia.com/cuda for more information.\nCUDA kernel errors might be "
    "asynchronously reported at some other API call, so the stacktrace below might be incorrect."
)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
        torch.AcceleratorError(f"CUDA error: out of memory{_MORE}"),
        RuntimeError(f"CUDA error: out of memory{_MORE}"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("HIP error: out of memory"),
        RuntimeError("HIP out of memory. Tried to allocate 2 GiB") if torch.version.hip else MemoryError("in a sum"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GiB)"),
    ],
)
def test_a_lack_of_memory_is_known_whoever_tells_of_it(error: Exception) -> None:
    assert fault_of(error) is Fault.MEMORY


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EFBIG, "File too large"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0: No space left on device"),
    ],
)
def test_a_full_disk_is_known_and_says_nothing_of_the_trial(error: Exception) -> None:
    assert fault_of(error) is Fault.DISK


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError(f"CUDA error: device-side assert triggered{_MORE}"),
        RuntimeError(f"CUDA error: an illegal memory access was encountered{_MORE}"),
        RuntimeError(f"CUDA error: unspecified launch failure{_MORE}"),
        RuntimeError(f"CUDA error: uncorrectable ECC error encountered{_MORE}"),
        RuntimeError(f"CUDA error: misaligned address{_MORE}"),
        RuntimeError(f"CUDA error: unknown error{_MORE}"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("HIP error: an illegal memory access was encountered"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    ],
)
def test_an_error_after_which_the_process_can_do_nothing_more_is_known(error: Exception) -> None:
    assert fault_of(error) is Fault.DEVICE


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("division by zero"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x8 and 9x2)"),
        RuntimeError(f"CUDA error: no kernel image is available for execution on the device{_MORE}"),
        RuntimeError(f"CUDA error: invalid configuration argument{_MORE}"),
        RuntimeError("Triton Error [CUDA]: out of resource: shared memory, Required: 262144"),
        AutopeftError("a CUDA error: device-side assert triggered, as a user writes it"),
        OSError(errno.ENOENT, "No such file or directory"),
    ],
)
def test_other_errors_are_the_trials_own(error: Exception) -> None:
    assert fault_of(error) is Fault.OTHER


def _raised(*errors: Exception) -> Exception:
    """The last of errors, each raised while the one before was handled."""
    try:
        if len(errors) > 1:
            raise _raised(*errors[:-1])
    except Exception:
        try:
            raise errors[-1]
        except Exception as last:
            return last
    return errors[-1]


def test_what_an_error_came_of_counts_and_a_useless_process_before_memory() -> None:
    full, broken, own = MemoryError(), RuntimeError("CUDA error: unspecified launch failure"), ValueError("no")
    assert fault_of(_raised(full, own)) is Fault.MEMORY
    assert fault_of(_raised(broken, own)) is Fault.DEVICE
    assert fault_of(_raised(broken, MemoryError())) is Fault.DEVICE
    hidden = ValueError("no")
    hidden.__context__, hidden.__suppress_context__ = broken, True
    assert fault_of(hidden) is Fault.OTHER
