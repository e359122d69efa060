"""What methods share that calibrate on training data: gradients used one by one, and dropout off."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from autopeft.methods.base import Batches


def use_gradients(tensors: Sequence[Tensor], batches: Batches, use: Callable[[Tensor, Tensor], None]) -> None:
    """Differentiates the loss of every batch by the tensors, which need not require gradients before or afterwards.

    Each gradient is given to `use`, after its tensor, as it arrives, and then dropped.
    """
    required = [tensor.requires_grad for tensor in tensors]

    def hand_over(tensor: Tensor) -> None:
        assert tensor.grad is not None
        use(tensor, tensor.grad)
        tensor.grad = None

    handles = []
    try:
        for tensor in tensors:
            tensor.requires_grad_(True)
            handles.append(tensor.register_post_accumulate_grad_hook(hand_over))  # type: ignore[no-untyped-call]
        for loss in batches():
            loss().backward(inputs=list(tensors))  # type: ignore[no-untyped-call]
    finally:
        for handle in handles:
            handle.remove()
        for tensor, flag in zip(tensors, required, strict=True):
            tensor.requires_grad_(flag)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode while it lasts; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
