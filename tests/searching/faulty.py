"""A method that misbehaves after a few steps, and a space of such methods."""

import os
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from autopeft.backbone.sites import Sites
from autopeft.methods.base import Attachment
from autopeft.methods.bitfit import BitFit
from autopeft.methods.in_place import TrainedInPlace

AFTER = 10
"""Steps before it misbehaves; the first rung lies before them."""
_CARD = """
summary: A method that does '{does}' while it trains.
family: selective
paper: none
implementation: tests.searching.faulty.Faulty
settings: {{does: {{default: {does}, values: [{does}]}}}}
training: {{learning_rate: {{default: 2.0e-3, low: 2.0e-4, high: 2.0e-2, log: true}}}}
"""
_SPACE = """
summary: Methods that misbehave, and one that does not.
methods: [bitfit, {methods}]
training: {{batch_size: 16, epochs: 1, least_steps: 30}}
"""


@dataclass(frozen=True)
class Faulty(BitFit):
    """BitFit until it does what it is told."""

    does: str = "raise"
    """raise, nan, sleep, spin, stop, spoil or die."""

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        return Misbehaving(model, dict(self._biases(model, sites)), self.does)


class Misbehaving(TrainedInPlace):
    """Trained biases, with a fault."""

    def __init__(self, model: nn.Module, chosen: Mapping[str, nn.Parameter], does: str) -> None:
        super().__init__(model, chosen)
        self._does = does

    def stepped(self, step: int, steps: int) -> None:  # noqa: ARG002
        if step < AFTER:
            return
        if self._does == "raise":
            raise RuntimeError("a defect of the method")
        if self._does == "nan":
            with torch.no_grad():
                next(iter(self._chosen.values())).fill_(float("nan"))
        if self._does == "sleep":
            time.sleep(100_000)
        if self._does == "spin":
            # For years, in C, and no other thread of Python runs meanwhile.
            re.match(r"(a+)+$", "a" * 60 + "b")
        if self._does == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if self._does == "spoil":
            _spoil()
        if self._does == "die":
            os.kill(os.getpid(), signal.SIGKILL)


def _spoil() -> None:
    """As after an assertion on a GPU: this call fails, and so does every later training in this process."""

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    torch.Tensor.backward = fails  # type: ignore[method-assign]
    fails()


def faulty_space(folder: Path, *does: str) -> Path:
    """A space of BitFit and one method for each fault, named like it."""
    (folder / "methods").mkdir(parents=True, exist_ok=True)
    for each in does:
        (folder / "methods" / f"{each}.yaml").write_text(_CARD.format(does=each))
    (folder / "space.yaml").write_text(_SPACE.format(methods=", ".join(does)))
    return folder
