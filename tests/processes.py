"""Processes that others began, as the operating system tells of them."""

import subprocess
from pathlib import Path


def children_of(process: int) -> set[int]:
    """Those that it began itself, and that have not been waited for."""
    asked = ["ps", "-o", "pid=", "--ppid", str(process)]
    return {int(each) for each in subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()}


def lives(process: int) -> bool:
    """Whether it has not ended, waited for or not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
