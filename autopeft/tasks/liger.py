"""Liger's kernel in the place of our own loss of a language model, on GPUs where `liger-kernel` is installed.

It computes the same sum and the same gradients, a few tokens at a time too, in kernels of its own. It knows soft caps
and biases, but no scale of logits. Memory is predicted for ours: kernels cannot be simulated.
"""

from functools import cache
from importlib.util import find_spec

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from autopeft.backbone.output import OutputEmbedding


@cache
def installed() -> bool:
    return find_spec("liger_kernel") is not None


def takes(device: str, scale: float, *, real: bool, there: bool) -> bool:
    """Whether its kernel takes the place of our own loss: on `real` tensors of this kind of device, where it is
    `there`.
    """
    return there and real and device == "cuda" and scale == 1.0


def may_take(states: Tensor, embedding: OutputEmbedding) -> bool:
    """The same for states of this output embedding, of which there are some."""
    real = not isinstance(states, FakeTensor) and len(states) > 0
    return takes(states.device.type, embedding.scale, real=real, there=installed())


def linear_cross_entropy(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, cap: float | None
) -> Tensor:
    """The sum of cross-entropies of (positions,) targets by (positions, width) states, in fp32 as sums go."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss: Tensor = LigerFusedLinearCrossEntropyLoss(reduction="sum", softcap=cap)(weight, states, targets, bias)
    return loss.float()
