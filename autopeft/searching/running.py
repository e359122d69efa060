"""Ray running on this machine or joined on a cluster, without a word, a file or a handler of signals of its own."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray

from autopeft import machine
from autopeft.errors import AutopeftError
from autopeft.searching.leftovers import marked
from autopeft.searching.signals import handlers_kept

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
}
"""What Ray reads while it works for us: no files, no second display, no telemetry, Ctrl-C left to the caller, and
workers that are as eager as whoever started the search: beside other work, Ray's usual ones hardly get on.
"""
_OBJECTS = 100 * 1024 * 1024
"""Bytes of Ray's object store; a trial and its rungs are a few kilobytes."""
_LONGEST_FOLDER = 40
"""Characters; Ray adds 66 for its sockets, whose paths may have 107."""


@contextlib.contextmanager
def running_ray(address: str | None, folder: Path) -> Iterator[None]:
    """Ray running; what was started or joined here is left again at the end, with all its workers. What starts here
    keeps its files in a folder.
    """
    with _environment(_QUIET), _quiet_logs():
        if ray.is_initialized():
            yield
            return
        with _started(address, folder):
            yield


@contextlib.contextmanager
def _started(address: str | None, folder: Path) -> Iterator[None]:
    local: dict[str, Any] = {"num_cpus": machine.cores(), "include_dashboard": False, "object_store_memory": _OBJECTS}
    if len(str(folder)) <= _LONGEST_FOLDER:
        local["_temp_dir"] = str(folder)
    try:
        with handlers_kept(), marked(folder):
            ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False, **({} if address else local))
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"join the Ray cluster at '{address}'" if address else "start Ray"
        token = " A cluster that asks for a token wants RAY_AUTH_MODE=token set here, too." if address else ""
        raise AutopeftError(f"cannot {where}: {str(error).splitlines()[0].rstrip('.')}.{token}") from error
    try:
        yield
    finally:
        ray.shutdown()


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
