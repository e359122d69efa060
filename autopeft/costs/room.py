"""How much memory a training may be predicted to take where nobody said it: what a GPU has free. Pure, but for the look
at the device.
"""

MARGIN = 1.25
"""Memory set aside for each predicted byte: allocators round up and keep what they freed, predictions are not exact."""
CONTEXT = 768 * 1024**2
"""Bytes of a GPU that every process takes for CUDA itself: its context, kernels and the libraries' workspaces."""


def limit_of(asked: float | None, free: int | None) -> float | None:
    """The limit in bytes: what was asked for; else what may be predicted so that it fits into what a device has free;
    none where there is no such device.
    """
    if asked is not None or free is None:
        return asked
    return max(0, int((free - CONTEXT) / MARGIN))


def free_here() -> int | None:
    """Bytes that this process has of this machine's fullest GPU or could still get; None where it has none."""
    import torch

    devices = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    free = (torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) for device in devices)
    return min(free, default=None)
