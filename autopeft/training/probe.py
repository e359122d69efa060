"""The linear probe: what a backbone knows before anything of it is trained.

The best linear map from frozen, pooled features to labels is the baseline of every search, and where a candidate's head
may start. Probes are kept on disk, so that they are fitted once and workers only read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from autopeft.data.store import Tokenized
from autopeft.errors import AutopeftError
from autopeft.files import appearing
from autopeft.tasks.base import Task
from autopeft.training.batches import by_length
from autopeft.training.model import Bare, Classifier
from autopeft.training.precision import forward


@dataclass(frozen=True)
class Probe:
    """A fitted head, and how good it is on validation data."""

    head: Mapping[str, Tensor]
    """The head's tensors by name."""
    accuracy: float
    """The task's metric on the validation split."""

    def start(self, head: nn.Module) -> None:
        """Sets a new head of the same task to the probe."""
        head.load_state_dict(self.head)


def fit_probe(
    model: PreTrainedModel, task: Task, train: Tokenized, validation: Tokenized, pooling: str, folder: Path
) -> Probe:
    """The probe for one pooling of the model's states; read from `folder` where it is already, else kept there.

    Raises AutopeftError for a model whose states are no numbers.
    """
    file = folder / f"{pooling}.safetensors"
    if not file.exists():
        features = pooled(model, train, pooling)
        head = task.new_head(features.shape[1])
        task.fit_head(head, features, train.labels)
        logits = head(torch.from_numpy(pooled(model, validation, pooling))).detach()
        accuracy = task.metric(logits, torch.tensor(validation.labels))
        _write(Probe(head.state_dict(), accuracy), file)
    return load_probe(folder, pooling)


def load_probe(folder: Path, pooling: str) -> Probe:
    """The probe that `fit_probe` left for this pooling."""
    with safe_open(folder / f"{pooling}.safetensors", framework="pt") as opened:
        head = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        return Probe(head, float(opened.metadata()["accuracy"]))


@torch.inference_mode()
def pooled(model: PreTrainedModel, data: Tokenized, pooling: str) -> np.ndarray:
    """(examples, width) pooled states of the bare model in fp32, in the order of the examples.

    Raises AutopeftError where they are no numbers.
    """
    features = Classifier(Bare(model), nn.Identity(), pooling).eval()
    rows: list[Tensor] = []
    order = by_length(data.lengths)
    for indices in order:
        inputs = {name: tensor.to(model.device) for name, tensor in data.batch(indices).items()}
        rows.append(forward(features, inputs, model.device).cpu())
    found: np.ndarray = torch.cat(rows).numpy()[np.argsort(np.concatenate(order))]
    spoiled = np.flatnonzero(~np.isfinite(found).all(1))
    if spoiled.size:
        raise AutopeftError(
            f"the model's states of {spoiled.size:,} of {len(found):,} texts are infinite or no numbers (NaN), the "
            f"first of them row {spoiled[0] + 1:,}: nothing can be learned from them. Are its weights whole?"
        )
    return found


def _write(probe: Probe, file: Path) -> None:
    with appearing(file) as place:
        save_file(dict(probe.head), place, metadata={"accuracy": repr(probe.accuracy)})
