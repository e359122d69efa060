"""SparseAdapter: a bottleneck adapter pruned before it is trained (He et al. 2022, arXiv:2210.04284).

Of all weights of all D and U together (`autopeft.methods.adapter`) the `sparsity` fraction with the lowest scores is
gone for good; biases and a learned scale stay. Scores, of weights w that are all still there, for the loss L on
training data, with its gradient g and Hessian H:

- `random`: none is better than another.
- `magnitude`: |w|.
- `snip`: |g w|, how much the loss depends on the weight (Lee et al. 2019, arXiv:1810.02340).
- `grasp`: w H g, so that removing what scores low harms the gradient's flow least (Wang et al. 2020, arXiv:2002.07376).
- `synflow`: |w ∂R/∂w| with R = 1ᵀ |U| |D| 1 of each adapter, without data (Tanaka et al. 2020, arXiv:2006.05467).

These need U as well as D to differ from zero: both are normal, of spread 0.02, so that the model's output is changed a
little from the first. Until `set_up` every matrix has its share of weights, those of largest magnitude, so that costs
are known; `set_up` draws all weights anew and scores them. Pruning happens once, as in the paper, not epoch by epoch as
in its code. A wider bottleneck at a higher sparsity has as many weights as a dense one: the paper's Large-Sparse.

What is left of a matrix is a vector, and so are its gradient and the optimizer's moments; the matrix itself exists, and
its gradient while the vector's is taken from it, in the pass through its layer. No operation is saved.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import linear

from autopeft.backbone.sites import Sites
from autopeft.errors import AutopeftError, unknown
from autopeft.methods.adapter import Adapter, Bottleneck
from autopeft.methods.base import Attachment, Batches, Calibration
from autopeft.methods.entries import POSITIONS, Entries, checked, highest, shares
from autopeft.methods.hooked import WEIGHTS, Hooked, copy_into, host, read_tensors, undone_on_error
from autopeft.methods.passes import evaluating

_SPREAD = 0.02
_BATCH = 8
"""Examples in a pass of `snip` and `grasp`, which differentiates twice."""


class _Dense(torch.autograd.Function):
    """The matrix that has these values at these positions, and zeros; only the values have a gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, indices: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(indices)
        return values.new_zeros(shape).put_(indices.long(), values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (indices,) = ctx.saved_tensors
        return gradient.take(indices.long()), None, None


class SparseLinear(Entries):
    """(…, features) -> (…, outputs): W x + b, where most entries of W may be missing."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(torch.empty(outputs, features))
        self.shape = (outputs, features)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def draw(self, count: int) -> None:
        """New weights, of which the `count` largest are kept."""
        weight = self.values.new_empty(self.shape).normal_(std=_SPREAD).flatten()
        indices = weight.abs().topk(count).indices.sort().values
        self.select(indices, weight.take(indices))

    def weight(self) -> Tensor:
        """W."""
        dense: Tensor = _Dense.apply(self.values, self.indices, self.shape)  # type: ignore[no-untyped-call]
        return dense

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight(), self.bias)


Score = Callable[[Sequence[Tensor], Sequence["SparseLinear"], Batches], list[Tensor]]
"""(all weights of D and U of every adapter in turn, their matrices, batches) -> how much each weight matters."""


def _random(weights: Sequence[Tensor], _: Sequence[SparseLinear], __: Batches) -> list[Tensor]:
    return [torch.rand_like(each) for each in weights]


def _magnitude(weights: Sequence[Tensor], _: Sequence[SparseLinear], __: Batches) -> list[Tensor]:
    return [each.abs() for each in weights]


def _snip(weights: Sequence[Tensor], _: Sequence[SparseLinear], batches: Batches) -> list[Tensor]:
    return [(gradient * each).abs() for gradient, each in zip(_gradient(weights, batches), weights, strict=True)]


def _grasp(weights: Sequence[Tensor], _: Sequence[SparseLinear], batches: Batches) -> list[Tensor]:
    """Attention is computed step by step here, because fused kernels cannot be differentiated twice."""
    gradients = _gradient(weights, batches)
    products = [torch.zeros_like(each) for each in weights]
    with sdpa_kernel(SDPBackend.MATH):
        for loss in batches():
            along = torch.autograd.grad(loss(), weights, create_graph=True, materialize_grads=True)
            slope = torch.stack([(one * other).sum() for one, other in zip(along, gradients, strict=True)]).sum()
            for product, each in zip(
                products, torch.autograd.grad(slope, weights, materialize_grads=True), strict=True
            ):
                product.add_(each)
    return [each * product for each, product in zip(weights, products, strict=True)]


def _synflow(weights: Sequence[Tensor], matrices: Sequence[SparseLinear], _: Batches) -> list[Tensor]:
    whole = [each.view(matrix.shape).abs() for each, matrix in zip(weights, matrices, strict=True)]
    scores = []
    for from_ones, to_ones in zip(whole[::2], whole[1::2], strict=True):
        scores.append((from_ones * to_ones.sum(0)[:, None]).flatten())
        scores.append((to_ones * from_ones.sum(1)).flatten())
    return scores


def _gradient(weights: Sequence[Tensor], batches: Batches) -> list[Tensor]:
    """Of the sum of the batches' losses."""
    sums = [torch.zeros_like(each) for each in weights]
    for loss in batches():
        for total, each in zip(sums, torch.autograd.grad(loss(), weights, materialize_grads=True), strict=True):
            total.add_(each)
    return sums


SCORES: Mapping[str, Score] = {
    "random": _random,
    "magnitude": _magnitude,
    "snip": _snip,
    "grasp": _grasp,
    "synflow": _synflow,
}
_ON_DATA = ("snip", "grasp")
"""Scores that need a calibration."""


@dataclass(frozen=True)
class SparseAdapter(Adapter):
    """A bottleneck adapter in every chosen layer, with few of its weights."""

    sparsity: float = 0.4
    """Fraction of the adapters' weights that is pruned."""
    score: str = "snip"
    """By what they are pruned: random, magnitude, snip, grasp or synflow."""
    samples: int = 128
    """Training examples, at most, that snip and grasp calibrate on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.sparsity < 1:
            raise AutopeftError(f"sparsity must be at least 0 and below 1, not {self.sparsity}.")
        if self.score not in SCORES:
            raise unknown("score of a sparse adapter", self.score, SCORES)
        if self.samples < 1:
            raise AutopeftError(f"samples must be at least 1, not {self.samples}.")

    def attach(self, model: nn.Module, sites: Sites) -> Attachment:
        module = nn.ModuleDict()
        attached = Pruned(model, module, self)
        with undone_on_error(attached):
            self._place(attached, module, sites)
            attached.prune()
        return attached

    def _adapter(self, model: nn.Module, layer: str, width: int) -> Bottleneck:
        adapter = super()._adapter(model, layer, width)
        device, dtype = host(model, layer)
        with torch.device(device):
            adapter.down = SparseLinear(width, self.bottleneck).to(dtype)
            adapter.up = SparseLinear(self.bottleneck, width).to(dtype)
        return adapter


class Pruned(Hooked):
    """Adapters on a model, of whose weights a fixed number is left."""

    def __init__(self, model: nn.Module, module: nn.Module, settings: SparseAdapter) -> None:
        super().__init__(model, module)
        self._settings = settings

    @property
    def _matrices(self) -> Mapping[str, SparseLinear]:
        """D and U of every adapter in turn."""
        return {name: each for name, each in self.module.named_modules() if isinstance(each, SparseLinear)}

    @property
    def _sizes(self) -> list[int]:
        return [math.prod(each.shape) for each in self._matrices.values()]

    @property
    def _count(self) -> int:
        """Weights that are left of all."""
        size = sum(self._sizes)
        return max(1, size - math.ceil(round(self._settings.sparsity * size, 6)))

    def prune(self) -> None:
        """Draws the weights, and leaves every matrix its share of them, the largest."""
        for each, share in zip(self._matrices.values(), shares(self._sizes, self._count), strict=True):
            each.draw(share)

    @contextmanager
    def calibrating(self) -> Iterator[Calibration]:
        """At how much each weight matters, all of them drawn anew, with dropout off: those that score best are left."""
        matrices = list(self._matrices.values())
        for each, size in zip(matrices, self._sizes, strict=True):
            each.draw(size)
        score = SCORES[self._settings.score]
        examples = self._settings.samples if self._settings.score in _ON_DATA else 0
        with evaluating(self.model):
            yield Calibration(
                examples,
                _BATCH,
                [each.values for each in matrices],
                lambda weights, batches: score(weights, matrices, batches),
                self._select,
            )

    def _select(self, scores: Sequence[Tensor]) -> None:
        best = highest(torch.cat(list(scores)).detach(), self._sizes, self._count)
        for each, indices in zip(self._matrices.values(), best, strict=True):
            each.select(indices, each.values.detach().take(indices))

    def trainable(self) -> Mapping[str, nn.Parameter]:
        return {name: tensor for name, tensor in super().trainable().items() if tensor.numel()}

    def shipped(self) -> Mapping[str, Tensor]:
        indices = {f"{name}.values{POSITIONS}": each.indices for name, each in self._matrices.items()}
        return {**self.trainable(), **{name: tensor for name, tensor in indices.items() if tensor.numel()}}

    def undecayed(self) -> frozenset[str]:
        return frozenset(name for name in self.trainable() if not name.endswith(".values"))

    def state(self) -> Mapping[str, Tensor]:
        return {name: each.indices for name, each in self._matrices.items()}

    def take_up(self, state: Mapping[str, Tensor]) -> None:
        for name, each in self._matrices.items():
            each.select(state[name], torch.zeros(len(state[name])))

    def load(self, folder: Path) -> None:
        file = folder / WEIGHTS
        tensors = read_tensors(file)
        entries = {name: each for name, each in tensors.items() if name.removesuffix(POSITIONS).endswith(".values")}
        sizes = {f"{name}.values": size for name, size in zip(self._matrices, self._sizes, strict=True)}
        chosen = checked(entries, sizes, self._count, file)
        whole = {name: each for name, each in super().trainable().items() if name not in sizes}
        copy_into(whole, {name: each for name, each in tensors.items() if name not in entries}, file)
        nothing = torch.empty(0)
        for name, each in self._matrices.items():
            each.select(*chosen.get(f"{name}.values", (nothing, nothing)))
