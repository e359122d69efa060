"""Liger's kernel in the place of our own loss of a language model: on GPUs, where `liger-kernel` is installed.

It computes the same sum and the same gradients, a few tokens at a time too, and knows biases and soft caps, but no
scale of logits. Memory is predicted for our own, because kernels cannot be simulated.
"""

from functools import cache
from typing import Any

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from autopeft.backbone.output import OutputEmbedding


def takes(device: str, scale: float, positions: int, *, real: bool) -> bool:
    """Whether a kernel could compute the loss of so many states: of `real` ones, whose logits are not scaled."""
    return device == "cuda" and real and scale == 1.0 and positions > 0


@cache
def kernel() -> Any:
    """Liger's class; None where it is not installed, or does not fit this machine's Triton."""
    try:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss
    except (ImportError, RuntimeError, OSError):
        return None
    return LigerFusedLinearCrossEntropyLoss


def may_take(states: Tensor, embedding: OutputEmbedding) -> bool:
    """Whether it computes the loss of (positions, width) states by this output embedding."""
    real = not isinstance(states, FakeTensor)
    return takes(states.device.type, embedding.scale, len(states), real=real) and kernel() is not None


def linear_cross_entropy(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, cap: float | None
) -> Tensor:
    """The sum of cross-entropies of (positions,) targets by (positions, width) states."""
    capped = {} if cap is None else {"softcap": cap}
    loss: Tensor = kernel()(reduction="sum", **capped)(weight, states, targets, bias)
    return loss.float()
