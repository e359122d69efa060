"""What of a candidate is counted on tensors, whether they have values or not, without a step."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from autopeft.backbone.load import Skeleton
from autopeft.methods.attached import Attached


def count_of(skeleton: Skeleton, attached: Attached) -> Mapping[str, int]:
    """What needs no simulation."""
    weights = bytes_of(attached.model, attached.modules, *held_of(skeleton)[1:])
    return {"trainable": attached.count, "stored": attached.stored, "weights": weights}


def held_of(skeleton: Skeleton) -> Sequence[nn.Module]:
    """The backbone, and what makes its logits where a head borrows that."""
    return [each for each in (skeleton.model, skeleton.output) if each is not None]


def bytes_of(*modules: nn.Module) -> int:
    """Of all parameters and buffers, each counted once."""
    tensors = {id(tensor): tensor for module in modules for _, tensor in slots_of(module)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def slots_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every place that holds a tensor, once even where modules are shared: `functional_call` restores those wrongly."""
    for path, inner in module.named_modules():
        prefix = f"{path}." if path else ""
        for name, tensor in (*inner.named_parameters(recurse=False), *inner.named_buffers(recurse=False)):
            yield prefix + name, tensor
