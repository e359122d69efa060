"""What this machine has for this process: where a container or an affinity gives less than there is, that counts."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_NVIDIA = ("nvidia-smi", "--query-gpu=index,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")


def memory() -> int:
    """Bytes of this machine, or of the container that this process runs in."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            sizes.append(int(Path(limit).read_text()))
    return min(sizes)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> Mapping[str, tuple[float, float]]:
    """Of each GPU by its number the share of its time, and of its memory, that is in use by anybody; none where the
    driver tells of none.
    """
    if shutil.which(_NVIDIA[0]) is None:
        return {}
    with suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run(_NVIDIA, capture_output=True, text=True, timeout=10, check=False).stdout
        cells = [line.split(", ") for line in said.splitlines() if line.count(", ") == 3 and "[" not in line]
        return {index: (float(used) / 100, float(held) / float(whole)) for index, used, held, whole in cells}
    return {}
