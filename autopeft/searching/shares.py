"""What each trial of a search gets of the machines."""

from dataclasses import dataclass
from typing import Any

from ray import tune

from autopeft.searching.allotment import Allotment, pack, part_of_device
from autopeft.trial import Trial


@dataclass(frozen=True)
class Shares:
    """As much as every other trial, the part that a trial needs of a GPU, or a whole device."""

    whole: Allotment
    alone: Allotment
    device: int | None
    """Bytes of a GPU; None where all trials get the same."""

    def of(self, trial: Trial) -> Allotment:
        if trial.alone:
            return self.alone
        return self.whole if self.device is None else pack(self.whole, trial.predicted.memory, self.device)

    @property
    def at_once(self) -> int:
        """Trials that train at a time, at most."""
        return self.whole.workers if self.device is None else pack(self.whole, 0, self.device).workers

    def portion(self, trial: Trial) -> float:
        """Of what one worker gets where all get the same."""
        return self.whole.workers / self.of(trial).workers

    def part_of_device(self, trial: Trial) -> float:
        return part_of_device(self.of(trial), self.alone)

    def resources(self, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        share = self.of(config["trial"])
        return tune.PlacementGroupFactory([{"CPU": share.cpus, "GPU": share.gpus}])


def device_memory_here() -> int | None:
    """Bytes of this machine's smallest GPU; None where it has none."""
    import torch

    devices = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return min((torch.cuda.get_device_properties(device).total_memory for device in devices), default=None)
