"""FishMask: train the few entries of the backbone that matter most for the task (Sung et al. 2021, arXiv:2111.09839).

Entries matter by their empirical Fisher information, the mean of squared gradients of single training examples, and the
`keep` fraction of all entries with the largest is trained. Weights, biases, norms and embeddings compete for it alike;
a task head and weights that one of peft's methods adapts do not. Until `set_up` has seen data, every tensor has its
share of the mask for its entries of largest magnitude, so that costs are those of entries everywhere.

Memory: gradients and the optimizer's moments exist for the selected entries only, beside one tensor's whole gradient
while it is computed; layers keep their inputs as in full fine-tuning. `set_up` keeps the Fisher information on the CPU,
where it is as large as the weights in fp32.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autopeft.backbone.sites import Sites
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.base import Attachment, Losses, Method
from autopeft.methods.hooked import WEIGHTS, Hooked, read_tensors, undone_on_error
from autopeft.methods.in_place import kept, own_parameters


@dataclass(frozen=True)
class FishMask(Method):
    """Trains the entries with the largest Fisher information, anywhere in the backbone."""

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
        adapted = [path for path, module in model.named_modules() if hasattr(module, "base_layer")]
        tensors = {
            name: tensor
            for name, tensor in own_parameters(model, "").items()
            if not any(name.startswith(f"{path}.") for path in adapted)
        }
        if not tensors:
            raise CannotAttach(f"FishMask finds no weights to train in {sites.architecture}.")
        with undone_on_error(Masked(model, tensors, self)) as attached:
            return attached


class _Written(torch.autograd.Function):
    """A tensor with trained values written into its entries; the gradient at these entries is that of the values."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, values: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        _write(tensor, values, indices)
        return tensor.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (indices,) = ctx.saved_tensors
        positions = indices.long()
        of_values = gradient.take(positions)
        of_others = gradient.put(positions, torch.zeros_like(of_values)) if ctx.needs_input_grad[0] else None
        return of_others, of_values, None


class Entries(nn.Module):
    """The selected entries of one tensor; their positions count along the flattened tensor."""

    values: nn.Parameter
    indices: Tensor

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(tensor.new_empty(0))
        small = tensor.numel() < 2**31
        nothing = torch.empty(0, dtype=torch.int32 if small else torch.int64, device=tensor.device)
        self.register_buffer("indices", nothing)

    def select(self, indices: Tensor, values: Tensor) -> None:
        """Other entries from now on; the parameter stays the same object, whatever its size."""
        self.values.data = values.to(self.values.device, self.values.dtype)
        self.indices = indices.to(self.indices.device, self.indices.dtype)

    def forward(self, tensor: Tensor) -> Tensor:
        """The tensor, trained: the same memory with another gradient."""
        trained: Tensor = _Written.apply(tensor, self.values, self.indices)  # type: ignore[no-untyped-call]
        return trained


class Masked(Hooked):
    """Selected entries of the model's tensors, written into them whenever a module that holds such a tensor runs."""

    mergeable = True

    def __init__(self, model: nn.Module, tensors: Mapping[str, nn.Parameter], settings: FishMask) -> None:
        entries = {name: Entries(tensor) for name, tensor in tensors.items()}
        super().__init__(model, nn.ModuleList(entries.values()))
        self._tensors = tensors
        self._entries = entries
        self._samples = settings.samples
        self._before: dict[str, Tensor] = {}
        size = sum(tensor.numel() for tensor in tensors.values())
        self._count = max(1, int(settings.keep * size))
        self._select(dict(self._largest()))
        by_tensor = {id(tensor): entries[name] for name, tensor in tensors.items()}
        for module in model.modules():
            held = {name: by_tensor.get(id(tensor)) for name, tensor in module.named_parameters(recurse=False)}
            own = {name: found for name, found in held.items() if found is not None}
            if own:
                self._hook(module, own)

    def _largest(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor's share of the mask, for its entries of largest magnitude."""
        size = sum(tensor.numel() for tensor in self._tensors.values())
        passed = 0
        for name, tensor in self._tensors.items():
            share = (passed + tensor.numel()) * self._count // size - passed * self._count // size
            passed += tensor.numel()
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

    def _hook(self, module: nn.Module, own: Mapping[str, Entries]) -> None:
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

    def set_up(self, losses: Losses) -> None:
        """Selects the entries anew, by their Fisher information on training data, with dropout off."""
        self._select({})
        sizes = [tensor.numel() for tensor in self._tensors.values()]
        fisher = torch.zeros(sum(sizes), device="cpu")
        sums = dict(zip(self._tensors.values(), torch.split(fisher, sizes), strict=True))
        with _squares_added(sums), _evaluating(self.model):
            for loss in losses(self._samples, 1):
                loss().backward(inputs=list(sums))  # type: ignore[no-untyped-call]
        top = torch.zeros_like(fisher, dtype=torch.bool)
        top[fisher.topk(self._count, sorted=False).indices] = True
        chosen = (part.nonzero().flatten() for part in torch.split(top, sizes))
        self._select(dict(zip(self._tensors, chosen, strict=True)))

    def trainable(self) -> Mapping[str, nn.Parameter]:
        return {name: entries.values for name, entries in self._entries.items() if entries.values.numel()}

    def shipped(self) -> Mapping[str, Tensor]:
        indices = {f"{name}:indices": self._entries[name].indices for name in self.trainable()}
        return {**self.trainable(), **indices}

    def undecayed(self) -> frozenset[str]:
        return frozenset(name for name in self.trainable() if self._tensors[name].ndim < 2)

    def load(self, folder: Path) -> None:
        file = folder / WEIGHTS
        tensors = read_tensors(file)
        values = {name: tensor for name, tensor in tensors.items() if not name.endswith(":indices")}
        count = sum(len(tensor) for tensor in values.values())
        if count != self._count:
            raise AutopeftError(f"'{file}' does not belong to this model: {count} entries, not {self._count}.")
        chosen = {}
        for name in values:
            if name not in self._tensors:
                raise AutopeftError(f"'{file}' does not belong to this model and method: it has no '{name}'.")
            chosen[name] = tensors.get(f"{name}:indices", torch.empty(0))
            if len(chosen[name]) != len(values[name]) or not 0 <= chosen[name].max() < self._tensors[name].numel():
                raise AutopeftError(f"'{file}' is damaged: the positions of '{name}' do not fit it.")
        self._select(chosen)
        for name, value in values.items():
            self._entries[name].select(chosen[name], value)

    def merge(self) -> None:
        """Leaves the trained values in the model's tensors; `detach` will no longer undo them."""
        for name, entries in self._entries.items():
            _write(self._tensors[name], entries.values.detach(), entries.indices)
        self._before.clear()

    def detach(self) -> None:
        super().detach()
        self._put_back()


def _write(tensor: Tensor, values: Tensor, indices: Tensor) -> None:
    """Through `.data`, unseen by autograd: a forward pass that is repeated for its activations writes what is there."""
    tensor.data.put_(indices.long(), values.detach().to(tensor.device))


@contextmanager
def _squares_added(sums: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """While it lasts, the parameters require gradients, whose squares are added to `sums` as soon as they are there."""
    required = [tensor.requires_grad for tensor in sums]

    def add(tensor: Tensor) -> None:
        assert tensor.grad is not None
        sums[tensor].add_(tensor.grad.flatten().float().square().cpu())  # type: ignore[index]
        tensor.grad = None

    handles = []
    try:
        for tensor in sums:
            tensor.requires_grad_(True)
            handles.append(tensor.register_post_accumulate_grad_hook(add))  # type: ignore[no-untyped-call]
        yield
    finally:
        for handle in handles:
            handle.remove()
        for tensor, flag in zip(sums, required, strict=True):
            tensor.requires_grad_(flag)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
