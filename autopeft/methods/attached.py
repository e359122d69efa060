"""Methods on a living model: attach, train, save, detach without trace.

`attach` works on any transformers model. The backbone is frozen; a task head outside it (a classifier, not a language-model head)
keeps its own setting of `requires_grad`, so that it can be trained beside the method.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from autopeft.backbone.find import find_sites
from autopeft.backbone.sites import Sites
from autopeft.errors import AutopeftError, CannotMerge
from autopeft.methods.base import Attachment
from autopeft.methods.registry import Configured, Hybrid

DESCRIPTION = "method.json"


@dataclass(frozen=True)
class TrainableTensor:
    """One tensor that a part trains."""

    part: int
    """Which part of the hybrid it belongs to, from 0."""
    name: str
    tensor: nn.Parameter
    decay: bool
    """Whether weight decay may act on it."""


class Attached:
    """One or several methods attached to a model, until `detach`. Usable as a context manager."""

    def __init__(self, model: nn.Module, parts: Sequence[Configured], sites: Sites) -> None:
        self._bare = model
        self._required_grad = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        self.chosen = tuple(parts)
        self.parts: tuple[Attachment, ...] = ()
        attached: dict[int, Attachment] = {}
        try:
            _freeze(model)
            self.model = model
            """What to call from now on."""
            for index in sorted(range(len(parts)), key=lambda i: parts[i].method.stage):
                attached[index] = parts[index].method.attach(self.model, sites)
                self.model = attached[index].model
                self.parts = tuple(attached.values())
        except Exception:
            self.detach()
            raise
        self._order = self.parts
        self.parts = tuple(attached[index] for index in range(len(parts)))
        self.modules = nn.ModuleList(part.module for part in self.parts)
        """The weights that the methods keep beside the model, for `to`, `train` and `eval`."""
        for each in self.tensors():
            each.tensor.requires_grad_(True)

    @property
    def prepended(self) -> int:
        """Positions before the real tokens in the model's output."""
        return sum(part.prepended for part in self.parts)

    def tensors(self) -> Iterator[TrainableTensor]:
        """Every trained tensor, each once."""
        seen: set[int] = set()
        for index, part in enumerate(self.parts):
            undecayed = part.undecayed()
            for name, tensor in part.trainable().items():
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield TrainableTensor(index, name, tensor, name not in undecayed)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained tensors, for an optimizer."""
        return (each.tensor for each in self.tensors())

    @property
    def count(self) -> int:
        """Trainable parameters, without the head."""
        return sum(parameter.numel() for parameter in self.parameters())

    def extra_loss(self) -> Tensor | None:
        """The sum of the parts' extra losses of the forward pass just made, or None."""
        losses = [loss for part in self.parts if (loss := part.extra_loss()) is not None]
        return torch.stack(losses).sum() if losses else None

    def save(self, folder: str | Path) -> Path:
        """Writes the trained tensors and what is needed to attach them again; a peft method alone is written in peft's format."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for part, place in zip(self.parts, _folders(folder, self.chosen), strict=True):
            place.mkdir(exist_ok=True)
            part.save(place)
        description = {"parts": [each.to_dict() for each in self.chosen]}
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        return folder

    def load(self, folder: str | Path) -> Self:
        """Reads tensors that `save` wrote for the same methods on the same model. Raises AutopeftError."""
        for part, place in zip(self.parts, _folders(Path(folder), self.chosen), strict=True):
            part.load(place)
        return self

    def merge(self) -> nn.Module:
        """Folds all parts into the weights, detaches, and returns the plain model. Raises CannotMerge, with nothing changed."""
        for each, part in zip(self.chosen, self.parts, strict=True):
            if not part.mergeable:
                raise CannotMerge(f"'{each.name}' cannot be merged into the weights: it adds computation, not a weight change.")
        for part in reversed(self._order):
            part.merge()
        self.detach()
        return self._bare

    def detach(self) -> None:
        """Takes everything off: the model is what it was before, bit for bit."""
        for part in reversed(getattr(self, "_order", self.parts)):
            part.detach()
        self.parts = self._order = ()
        for name, parameter in self._bare.named_parameters():
            parameter.requires_grad_(self._required_grad[name])
            parameter.grad = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.detach()


def attach(model: nn.Module, what: Configured | Hybrid | Sequence[Configured], sites: Sites | None = None) -> Attached:
    """Attaches a method, a hybrid or a list of methods to a transformers model.

    >>> attached = attach(model, method("lora", rank=8, sites=["q", "v"]))

    Raises CannotAttach with the reason, leaving the model as it was. `sites` is found when not given.
    """
    parts = [what] if isinstance(what, Configured) else what.parts if isinstance(what, Hybrid) else list(what)
    if not parts:
        raise AutopeftError("give at least one method to attach.")
    return Attached(model, parts, sites or find_sites(model))


def attach_saved(model: nn.Module, folder: str | Path, sites: Sites | None = None) -> Attached:
    """Attaches what `Attached.save` wrote, with its trained values. Raises AutopeftError."""
    folder = Path(folder)
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except OSError as error:
        raise AutopeftError(f"'{folder}' holds no saved method: {DESCRIPTION} is missing.") from error
    return attach(model, [Configured.from_dict(part) for part in description["parts"]], sites).load(folder)


def _freeze(model: nn.Module) -> None:
    """Freezes the backbone and a language-model head; a task head outside the backbone stays as it is."""
    getattr(model, "base_model", model).requires_grad_(False)
    get_output_embeddings = getattr(model, "get_output_embeddings", None)
    output = get_output_embeddings() if get_output_embeddings else None
    if output is not None:
        output.requires_grad_(False)


def _folders(folder: Path, chosen: Sequence[Configured]) -> list[Path]:
    if len(chosen) == 1:
        return [folder]
    return [folder / f"{index}-{each.name}" for index, each in enumerate(chosen)]
