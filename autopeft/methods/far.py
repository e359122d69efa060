"""FAR, freeze and reconfigure: train the rows of the feed-forward that change most (Vucetic et al. 2022,
arXiv:2205.01541).

Priming fine-tunes the feed-forward weights on a few training examples. In each of its Linears the `keep` fraction of
the rows (the paper's nodes) whose weights moved farthest, by the sum of absolute changes, are the learners, with their
biases; all other rows are frozen at the backbone's values. Until `set_up` has seen data, the learners are the rows of
largest absolute sum, so that costs are known. A Linear that one of peft's methods adapts is left to it.

A Linear split into learners and others, their outputs joined and put back in order, computes what the whole one does
with the learners in their places. So they are written there whenever it runs, and only the backward pass is split: no
gradient of a frozen row ever exists, and the optimizer's moments are the learners' only. The Linear's input is kept
for the learners' gradient. Priming uses each gradient as it arrives and drops it; its moments lie on the CPU.

Whether training goes on from the primed values, and what it covers beside the feed-forward, we could not verify in the
paper: both are settings.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from autopeft.backbone.sites import Layers, Sites
from autopeft.errors import AutopeftError, CannotAttach, unknown
from autopeft.methods.base import Attachment, Batches, Calibration, Method
from autopeft.methods.hooked import WEIGHTS, copy_into, read_tensors, trained_in, undone_on_error
from autopeft.methods.in_place import TrainedInPlace, kept, unadapted_parameters
from autopeft.methods.passes import use_gradients

Start = Literal["primed", "base"]
_BATCH = 16
"""Examples in a step of priming."""
_LEARNING_RATE = 5e-5
"""Of priming, which is full fine-tuning with AdamW, without decay."""


@dataclass(frozen=True)
class FAR(Method):
    """Trains the rows of the feed-forward Linears that priming moves farthest."""

    lacks = MappingProxyType({"quantised": "it trains rows of the matrices themselves"})

    keep: float = 0.1
    """Fraction of each Linear's rows that is trained."""
    samples: int = 1024
    """Training examples, at most, that priming sees, each once."""
    resume_from: Start = "primed"
    """Values that the learners start from: primed ones, or the backbone's (base)."""
    train_non_ffn: bool = False
    """Whether everything outside the feed-forward Linears is trained too."""
    layers: Layers = "all"
    """Layers whose feed-forward is reconfigured."""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise AutopeftError(f"keep must be above 0 and at most 1, not {self.keep}.")
        if self.samples < 1:
            raise AutopeftError(f"samples must be at least 1, not {self.samples}.")
        if self.resume_from not in get_args(Start):
            raise unknown("start of FAR's learners", self.resume_from, get_args(Start))

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        others = unadapted_parameters(model, sites)
        found = {path: model.get_submodule(path) for path in self._paths(sites) if f"{path}.weight" in others}
        linears = {path: module for path, module in found.items() if isinstance(module, nn.Linear | Conv1D)}
        if not linears:
            raise CannotAttach(
                f"FAR finds no feed-forward weights to train in {sites.architecture}: they are quantised, or other "
                "methods adapt them, or there are none."
            )
        for path in linears:
            others = {name: tensor for name, tensor in others.items() if not name.startswith(f"{path}.")}
        with undone_on_error(Reconfigured(model, linears, others if self.train_non_ffn else {}, self)) as attached:
            return attached

    def _paths(self, sites: Sites) -> Iterator[str]:
        for site in ("ffn.up", "ffn.gate", "ffn.down"):
            if sites.places.get(site):
                yield from (place.path for place in sites.at(site, self.layers))


class _Learning(torch.autograd.Function):
    """A Linear's output as it is; the gradients of its learners are made from the output's and from the input."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor) -> Tensor:
        ctx.save_for_backward(x.to(output.dtype), rows)
        ctx.dtype, ctx.has_bias = weight.dtype, bias is not None
        return output.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor | None, None]:
        x, rows = ctx.saved_tensors
        learned = gradient.index_select(-1, rows).flatten(0, -2)
        of_weight = (learned.T @ x.flatten(0, -2)).to(ctx.dtype)
        of_bias = learned.sum(0).to(ctx.dtype) if ctx.has_bias else None
        return gradient if ctx.needs_input_grad[0] else None, None, of_weight, of_bias, None


class Learners(nn.Module):
    """The learner rows of one Linear: their weights (rows, inputs), their biases if it has any, and their numbers."""

    rows: Tensor

    def __init__(self, linear: nn.Module, keep: float) -> None:
        super().__init__()
        whole = _by_row(linear)
        count = max(1, int(keep * len(whole["weight"])))
        dtype = trained_in(whole["weight"])
        self.weight = nn.Parameter(whole["weight"].new_empty(count, whole["weight"].shape[1], dtype=dtype))
        bias = nn.Parameter(whole["bias"].new_empty(count, dtype=dtype)) if "bias" in whole else None
        self.register_parameter("bias", bias)
        self.register_buffer("rows", torch.zeros(count, dtype=torch.int32, device=whole["weight"].device))

    def choose(self, change: Tensor) -> None:
        """The rows of largest `change` from now on; of equal ones the first."""
        order = change.sort(descending=True, stable=True).indices
        self.rows.copy_(order[: len(self.rows)].sort().values)

    def picked(self, whole: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """These rows of a Linear's tensors."""
        return {name: tensor.index_select(0, self.rows.to(tensor.device)) for name, tensor in whole.items()}

    @torch.no_grad()
    def assign(self, values: Mapping[str, Tensor]) -> None:
        """Other values for these rows."""
        for name, tensor in self.named_parameters():
            tensor.copy_(values[name])

    def write(self, linear: nn.Module, values: Mapping[str, Tensor]) -> None:
        """Puts values for these rows into the Linear."""
        for name, whole in _by_row(linear).items():
            whole.index_copy_(0, self.rows.long(), values[name].detach().to(whole.device, whole.dtype))


class Reconfigured(TrainedInPlace):
    """Linears that train their learners only, which are written into them whenever they run.

    `others` are parameters of the model that are trained whole beside them.
    """

    def __init__(
        self, model: nn.Module, linears: Mapping[str, nn.Module], others: Mapping[str, nn.Parameter], settings: FAR
    ) -> None:
        learners = {path: Learners(linear, settings.keep) for path, linear in linears.items()}
        super().__init__(model, others, nn.ModuleList(learners.values()))
        self._linears = linears
        self._learners = learners
        self._settings = settings
        self._priming = False
        self._rows_before: dict[str, Mapping[str, Tensor]] = {}
        """The backbone's values of the learners, by Linear."""
        for path, linear in linears.items():
            learners[path].choose(_by_row(linear)["weight"].abs().sum(1))
            learners[path].assign(learners[path].picked(_by_row(linear)))
            self._hook(linear, learners[path])
        self._remember()

    def _hook(self, linear: nn.Module, learners: Learners) -> None:
        """Its output is taken before other methods change it: that change is no part of the Linear."""

        def before(linear: nn.Module, _: Any) -> None:
            if not self._priming:
                learners.write(linear, dict(learners.named_parameters()))

        def after(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if self._priming or not torch.is_grad_enabled():
                return output
            given = (output, inputs[0], learners.weight, learners.bias, learners.rows)
            trained: Tensor = _Learning.apply(*given)  # type: ignore[no-untyped-call]
            return trained

        self._handles.append(linear.register_forward_pre_hook(before))
        self._handles.append(linear.register_forward_hook(after, prepend=True))

    def _remember(self) -> None:
        """Keeps what the backbone holds where the learners will be written."""
        for path, learners in self._learners.items():
            found = learners.picked(_by_row(self._linears[path]))
            self._rows_before[path] = {name: kept(tensor) for name, tensor in found.items()}

    def _put_back(self) -> None:
        for path, values in self._rows_before.items():
            self._learners[path].write(self._linears[path], values)
        self._rows_before.clear()

    @contextmanager
    def calibrating(self) -> Iterator[Calibration]:
        """At how far priming moves the rows: by that learners are chosen anew. Afterwards all values are back."""
        self._put_back()
        whole = {path: _by_row(linear) for path, linear in self._linears.items()}
        before = {path: {name: kept(each) for name, each in own.items()} for path, own in whole.items()}
        others_stay = False

        def choose(_: None) -> None:
            nonlocal others_stay
            others_stay = self._settings.resume_from == "primed"
            start = whole if others_stay else before
            for path, learners in self._learners.items():
                learners.choose((kept(whole[path]["weight"]) - before[path]["weight"]).abs().sum(1))
                learners.assign(learners.picked(start[path]))

        self._priming = True
        try:
            yield Calibration(self._settings.samples, _BATCH, self.selects(), _fine_tune, choose)
        finally:
            self._priming = False
            for path, own in whole.items():
                for name, tensor in own.items():
                    tensor.copy_(before[path][name])
            self._remember()
            if not others_stay:
                for name, value in self._before.items():
                    self._chosen[name].data.copy_(value)

    def selects(self) -> Sequence[nn.Parameter]:
        whole = [parameter for linear in self._linears.values() for parameter in linear.parameters()]
        return [*whole, *self._chosen.values()]

    def trainable(self) -> Mapping[str, nn.Parameter]:
        learned = {
            f"{path}.{name}": parameter
            for path, learners in self._learners.items()
            for name, parameter in learners.named_parameters()
        }
        return {**learned, **self._chosen}

    def shipped(self) -> Mapping[str, Tensor]:
        return {**self.trainable(), **{f"{path}:rows": each.rows for path, each in self._learners.items()}}

    def undecayed(self) -> frozenset[str]:
        return frozenset(name for name, tensor in self.trainable().items() if tensor.ndim < 2)

    def state(self) -> Mapping[str, Tensor]:
        return {path: learners.rows for path, learners in self._learners.items()}

    def take_up(self, state: Mapping[str, Tensor]) -> None:
        self._put_back()
        for path, rows in state.items():
            self._learners[path].rows.copy_(rows)
        self._remember()

    def load(self, folder: Path) -> None:
        file = folder / WEIGHTS
        values = {name: torch.empty_like(tensor, device="cpu") for name, tensor in self.shipped().items()}
        copy_into(values, read_tensors(file), file)
        for path, linear in self._linears.items():
            rows, count = values[f"{path}:rows"], len(_by_row(linear)["weight"])
            if rows[0] < 0 or rows[-1] >= count or (rows.diff() <= 0).any():
                raise AutopeftError(f"'{file}' is damaged: '{path}' has {count} rows, and those named do not fit it.")
        self.take_up({path: values[f"{path}:rows"] for path in self._learners})
        with torch.no_grad():
            for name, tensor in self.trainable().items():
                tensor.copy_(values[name])

    def merge(self) -> None:
        """Leaves the trained values in the model's tensors; `detach` will no longer undo them."""
        for path, learners in self._learners.items():
            learners.write(self._linears[path], dict(learners.named_parameters()))
        self._rows_before.clear()
        super().merge()

    def detach(self) -> None:
        super().detach()
        self._put_back()


def _by_row(linear: nn.Module) -> Mapping[str, Tensor]:
    """Weight (outputs, inputs) and, where there is one, bias: the Linear's own memory, unseen by autograd."""
    tensors = {name: parameter.data for name, parameter in linear.named_parameters(recurse=False)}
    return {**tensors, "weight": tensors["weight"].T} if isinstance(linear, Conv1D) else tensors


def _fine_tune(tensors: Sequence[Tensor], batches: Batches) -> None:
    """One step of AdamW on each loss; every tensor takes its step as soon as its gradient is there."""
    steps = {tensor: _Step(tensor) for tensor in tensors}
    use_gradients(tensors, batches, lambda tensor, gradient: steps[tensor].take(gradient))


class _Step:
    """AdamW of one tensor, in fp32 on the CPU, so that nothing but the tensor itself takes memory of its device."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._values = nn.Parameter(kept(tensor).float())
        self._optimizer = torch.optim.AdamW([self._values], lr=_LEARNING_RATE, weight_decay=0.0)

    def take(self, gradient: Tensor) -> None:
        self._values.grad = gradient.to("cpu", torch.float32)
        self._optimizer.step()
        self._values.grad = None
        self._tensor.data.copy_(self._values.detach())
