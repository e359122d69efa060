"""The linear probe: what a backbone knows before anything of it is trained.

The best linear map from frozen features to what is to be learned is a baseline of every search, and where a candidate's
head may start. Probes are kept on disk, so that they are fitted once and workers only read them. All poolings come of
one pass over the data.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from autopeft.data.store import Column, Dataset
from autopeft.errors import AutopeftError
from autopeft.files import appearing
from autopeft.space.candidate import Training
from autopeft.tasks.base import Task
from autopeft.tasks.heads import Batch, Head
from autopeft.tasks.metrics import Array
from autopeft.training.evaluation import Counted, counted, outputs
from autopeft.training.model import Inputs, TaskModel, as_it_is

MOST_ROWS = 10_000
"""Training rows that a probe is fitted on, at most: more make it hardly better."""
MOST_ITEMS = 20_000
"""Of things that are learned, where a row holds many; of more some are taken at random, of all rows."""
_STATISTICS = "statistics"


@dataclass(frozen=True)
class Probe:
    """A fitted head, and how good it is on validation data."""

    head: Mapping[str, Tensor]
    """The head's tensors by name."""
    statistics: Array
    """(rows, k) of the validation split; metrics are functions of their sums."""
    seconds: float
    """What it took, with the other poolings that came of the same pass."""

    def start(self, head: nn.Module) -> None:
        """Sets a new head of the same task to the probe."""
        head.load_state_dict(self.head)


def fit_probes(
    model: nn.Module,
    width: int,
    task: Task,
    train: Dataset,
    validation: Dataset,
    poolings: Sequence[str],
    folder: Path,
) -> Mapping[str, Probe]:
    """The probe for each pooling of the model's states, on the model's device; read from `folder` where they are
    already, else kept there. `width` is that of the states.

    Raises AutopeftError for a model whose states are no numbers.
    """
    if not all(_file(folder, pooling).exists() for pooling in poolings):
        began, device = time.perf_counter(), next(model.parameters()).device
        # Where a head does not pool, one probe is that of every pooling.
        different = poolings if "pooling" in task.settings else poolings[:1]
        heads = [task.new_head(width, Training(pooling=pooling)) for pooling in different]
        for head, (features, targets) in zip(heads, features_of(model, heads, train, device, task.inputs), strict=True):
            task.fit(head, features, targets)
        probes = [
            Probe(head.state_dict(), statistics, time.perf_counter() - began)
            for head, statistics in zip(heads, _statistics(model, heads, validation, device, task.inputs), strict=True)
        ]
        for number, pooling in enumerate(poolings):
            _write(probes[number % len(probes)], _file(folder, pooling))
    return {pooling: load_probe(folder, pooling) for pooling in poolings}


def answered_by(
    model: nn.Module, width: int, task: Task, validation: Dataset, probes: Mapping[str, Probe], answered: Counted
) -> Sequence[Array]:
    """What `answered` gives of each probe's output, row by row, in one more pass of the bare model."""
    heads = [task.new_head(width, Training(pooling=pooling)) for pooling in probes]
    for head, probe in zip(heads, probes.values(), strict=True):
        probe.start(head)
    return _statistics(model, heads, validation, next(model.parameters()).device, task.inputs, answered)


def load_probe(folder: Path, pooling: str) -> Probe:
    """The probe that `fit_probes` left for this pooling."""
    with safe_open(_file(folder, pooling), framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        seconds = float(opened.metadata()["seconds"])
    statistics = tensors.pop(_STATISTICS).numpy()
    return Probe(tensors, statistics, seconds)


def features_of(
    model: nn.Module, heads: Sequence[Head], data: Dataset, device: torch.device, inputs: Inputs = as_it_is
) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """For each head (items, width) features of the bare model in fp32 and (items, …) their targets, of at most
    `MOST_ROWS` rows and about `MOST_ITEMS` items, in the order of the rows.

    Raises AutopeftError where they are no numbers.
    """
    chosen = np.arange(len(data))
    if len(data) > MOST_ROWS:
        chosen = np.sort(np.random.default_rng(0).permutation(len(data))[:MOST_ROWS])
    share = MOST_ITEMS / max(1, _items(data.targets, chosen))
    found: list[list[tuple[np.ndarray, ...]]] = [[] for _ in heads]
    for rows, batch, states in _states(model, inputs, data, device, chosen):
        for head, of_head in zip(heads, found, strict=True):
            features, targets, places = (each.cpu().numpy() for each in head.features(states, batch))
            some = np.random.default_rng(rows).random(len(places)) < share
            of_head.append((features[some], targets[some], rows[places[some]]))
    joined = []
    for of_head in found:
        features, targets, rows = (np.concatenate(each) for each in zip(*of_head, strict=True))
        _require_numbers(features, rows, len(chosen))
        order = np.argsort(rows, kind="stable")
        joined.append((features[order], targets[order]))
    return joined


def _items(targets: Column, rows: np.ndarray) -> int:
    """How much is to be learned of these rows."""
    if targets.offsets is None:
        return len(rows)
    return sum(int(np.count_nonzero(targets[row] != targets.padding)) for row in rows)


def _require_numbers(features: np.ndarray, rows: np.ndarray, of: int) -> None:
    spoiled = np.unique(rows[~np.isfinite(features).all(1)])
    if spoiled.size:
        raise AutopeftError(
            f"the model's states of {spoiled.size:,} of {of:,} rows are infinite or no numbers (NaN), the first of "
            f"them row {spoiled[0] + 1:,}: nothing can be learned from them. Are its weights whole?"
        )


@torch.no_grad()
def _statistics(
    model: nn.Module,
    heads: Sequence[Head],
    data: Dataset,
    device: torch.device,
    inputs: Inputs,
    answered: Counted | None = None,
) -> Sequence[Array]:
    """(rows, k) of each head, or what `answered` gives of its output, in the order of the rows."""
    found: list[list[Array]] = [[] for _ in heads]
    order = []
    heads = [head.to(device) for head in heads]
    for rows, batch, states in _states(model, inputs, data, device, np.arange(len(data))):
        order.append(rows)
        for head, of_head in zip(heads, found, strict=True):
            of_head.append(counted(answered or head.statistics, head(states, batch), batch))
    back = np.argsort(np.concatenate(order))
    return [np.concatenate(of_head)[back] for of_head in found]


def _states(
    model: nn.Module, inputs: Inputs, data: Dataset, device: torch.device, chosen: np.ndarray
) -> Iterator[tuple[np.ndarray, Batch, Tensor]]:
    """Batch by batch: row numbers, the batch, and the bare model's states in fp32."""
    return outputs(TaskModel(model, _States(), inputs=inputs), data, device, chosen)


class _States(nn.Module):
    """In the place of a head: the states themselves."""

    def forward(self, states: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        return states


def _file(folder: Path, pooling: str) -> Path:
    return folder / f"{pooling}.safetensors"


def _write(probe: Probe, file: Path) -> None:
    with appearing(file) as place:
        tensors = {**probe.head, _STATISTICS: torch.from_numpy(probe.statistics)}
        save_file(tensors, place, metadata={"seconds": repr(probe.seconds)})
