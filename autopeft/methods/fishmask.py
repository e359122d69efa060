"""FishMask: train the few entries of the backbone that matter most for the task (Sung et al. 2021, arXiv:2111.09839).

Entries matter by their empirical Fisher information, the mean of squared gradients of single training examples, and the
`keep` fraction of all entries with the largest is trained. Weights, biases, norms and embeddings compete for it alike;
a task head and weights that one of peft's methods adapts do not. Until `set_up` has seen data, every tensor has its
share of the mask for its entries of largest magnitude, so that costs are those of entries everywhere.

Memory: gradients and the optimizer's moments exist for the selected entries only, beside one tensor's whole gradient
while it is computed; layers keep their inputs as in full fine-tuning. While it is estimated, the Fisher information
lies on the CPU, as large as the weights in fp32.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from autopeft.backbone.sites import Sites
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.base import Attachment, Batches, Calibration, Method
from autopeft.methods.entries import POSITIONS, Entries, checked, highest, shares
from autopeft.methods.hooked import WEIGHTS, Hooked, read_tensors, undone_on_error
from autopeft.methods.in_place import kept, unadapted_parameters
from autopeft.methods.passes import evaluating, use_gradients


@dataclass(frozen=True)
class FishMask(Method):
    """Trains the entries with the largest Fisher information, anywhere in the backbone."""

    lacks = MappingProxyType({"quantised": "it trains entries of the matrices themselves"})

    keep: float = 0.005
    """Fraction of the backbone's parameters that is trained."""
    samples: int = 1024
    """Training examples, at most, that the Fisher information is estimated on, one by one."""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise AutopeftError(f"keep must be above 0 and at most 1, not {self.keep}.")
        if self.samples < 1:
            raise AutopeftError(f"samples must be at least 1, not {self.samples}.")

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        tensors = unadapted_parameters(model, sites)
        if not tensors:
            raise CannotAttach(f"FishMask finds no weights to train in {sites.architecture}.")
        with undone_on_error(Masked(model, tensors, self)) as attached:
            return attached


class _Written(torch.autograd.Function):
    """A tensor with trained values written into its entries; the gradient at these entries is that of the values."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, values: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.dtype = values.dtype
        _write(tensor, values, indices)
        return tensor.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (indices,) = ctx.saved_tensors
        positions = indices.long()
        of_values = gradient.take(positions)
        of_others = gradient.put(positions, torch.zeros_like(of_values)) if ctx.needs_input_grad[0] else None
        return of_others, of_values.to(ctx.dtype), None


class Written(Entries):
    """Entries whose values are written into their tensor."""

    def forward(self, tensor: Tensor) -> Tensor:
        """The tensor, trained: the same memory with another gradient."""
        trained: Tensor = _Written.apply(tensor, self.values, self.indices)  # type: ignore[no-untyped-call]
        return trained


class Masked(Hooked):
    """Selected entries of the model's tensors, written into them whenever a module that holds such a tensor runs."""

    mergeable = True

    def __init__(self, model: nn.Module, tensors: Mapping[str, nn.Parameter], settings: FishMask) -> None:
        entries = {name: Written(tensor) for name, tensor in tensors.items()}
        super().__init__(model, nn.ModuleList(entries.values()))
        self._tensors = tensors
        self._entries = entries
        self._samples = settings.samples
        self._before: dict[str, Tensor] = {}
        self._sizes = {name: tensor.numel() for name, tensor in tensors.items()}
        self._count = max(1, int(settings.keep * sum(self._sizes.values())))
        self._select(dict(self._largest()))
        by_tensor = {id(tensor): entries[name] for name, tensor in tensors.items()}
        for module in model.modules():
            held = {name: by_tensor.get(id(tensor)) for name, tensor in module.named_parameters(recurse=False)}
            own = {name: found for name, found in held.items() if found is not None}
            if own:
                self._hook(module, own)

    def _largest(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor's share of the mask, for its entries of largest magnitude."""
        divided = shares(list(self._sizes.values()), self._count)
        for (name, tensor), share in zip(self._tensors.items(), divided, strict=True):
            yield name, tensor.detach().abs().flatten().topk(share).indices

    def _select(self, chosen: Mapping[str, Tensor]) -> None:
        """Takes these entries, by tensor, in the place of the earlier ones, which are put back first."""
        self._put_back()
        for name, entries in self._entries.items():
            indices = chosen[name].sort().values if name in chosen else entries.indices.new_empty(0)
            indices = indices.to(entries.indices.device)
            values = self._tensors[name].detach().take(indices.long())
            entries.select(indices, values)
            self._before[name] = kept(values)

    def _put_back(self) -> None:
        for name, before in self._before.items():
            _write(self._tensors[name], before, self._entries[name].indices)
        self._before.clear()

    def _hook(self, module: nn.Module, own: Mapping[str, Written]) -> None:
        """While the module runs, it holds the trained tensors; afterwards its own parameters again, also on errors.

        Its parameters are looked up when it runs, because a simulated step swaps them. What was put there last is taken
        off first, for the sake of other methods that do the same.
        """
        held: list[dict[str, nn.Parameter | None]] = []

        def before(*_: Any) -> None:
            held.append({name: module._parameters[name] for name in own})
            for name, entries in own.items():
                if entries.values.numel():
                    module._parameters[name] = entries(module._parameters[name])

        def after(*_: Any) -> None:
            if held:
                module._parameters.update(held.pop())

        self._handles.append(module.register_forward_pre_hook(before))
        self._handles.append(module.register_forward_hook(after, prepend=True, always_call=True))

    @contextmanager
    def calibrating(self) -> Iterator[Calibration]:
        """At the Fisher information of all entries on training data, with dropout off: by that they are selected."""
        self._select({})
        with evaluating(self.model):
            yield Calibration(self._samples, 1, tuple(self._tensors.values()), _fisher, self._select_highest)

    def _select_highest(self, fisher: Tensor) -> None:
        chosen = highest(fisher, list(self._sizes.values()), self._count)
        self._select(dict(zip(self._tensors, chosen, strict=True)))

    def selects(self) -> Iterable[nn.Parameter]:
        return self._tensors.values()

    def trainable(self) -> Mapping[str, nn.Parameter]:
        return {name: entries.values for name, entries in self._entries.items() if entries.values.numel()}

    def shipped(self) -> Mapping[str, Tensor]:
        indices = {f"{name}{POSITIONS}": self._entries[name].indices for name in self.trainable()}
        return {**self.trainable(), **indices}

    def undecayed(self) -> frozenset[str]:
        return frozenset(name for name in self.trainable() if self._tensors[name].ndim < 2)

    def state(self) -> Mapping[str, Tensor]:
        return {name: entries.indices for name, entries in self._entries.items() if entries.indices.numel()}

    def take_up(self, state: Mapping[str, Tensor]) -> None:
        self._select(state)

    def load(self, folder: Path) -> None:
        file = folder / WEIGHTS
        chosen = checked(read_tensors(file), self._sizes, self._count, file)
        self._select({name: indices for name, (indices, _) in chosen.items()})
        for name, (indices, values) in chosen.items():
            self._entries[name].select(indices, values)

    def merge(self) -> None:
        """Leaves the trained values in the model's tensors; `detach` will no longer undo them."""
        for name, entries in self._entries.items():
            _write(self._tensors[name], entries.values.detach(), entries.indices)
        self._before.clear()

    def detach(self) -> None:
        super().detach()
        self._put_back()


def _fisher(tensors: Sequence[Tensor], batches: Batches) -> Tensor:
    """(entries of all tensors in turn,): sums of squared gradients of single examples, in fp32 on the CPU."""
    sizes = [tensor.numel() for tensor in tensors]
    fisher = torch.zeros(sum(sizes), device="cpu")
    sums = dict(zip(tensors, torch.split(fisher, sizes), strict=True))

    def add(tensor: Tensor, gradient: Tensor) -> None:
        single = gradient.flatten().float().cpu()
        sums[tensor].addcmul_(single, single)

    use_gradients(tensors, batches, add)
    return fisher


def _write(tensor: Tensor, values: Tensor, indices: Tensor) -> None:
    """Through `.data`, unseen by autograd: a forward pass that is repeated for its activations writes what is there."""
    tensor.data.put_(indices.long(), values.detach().to(tensor.device, tensor.dtype))
