"""Parameters that what a model puts out does not depend on: they would be trained in vain.

Such as DINOv2's mask token, which serves its pretraining only, or, where nothing but the states is read, what CLIP does
to a pooled state. Parameters inside layers never count as idle: a mixture of experts may pick others for other inputs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

STATES = "last_hidden_state"
"""Of a model's output, what heads read."""


def idle_parameters(
    layers: Sequence[str], used: Mapping[str, Tensor], output: Any, states_only: bool
) -> frozenset[str]:
    """The idle ones by their names, after a forward pass that was tracked for gradients: it gave `output` of the
    tensors `used` in their places. `states_only` says that nothing but the states will be read of it.
    """
    read = [output[STATES]] if states_only else [*output.values()] if isinstance(output, Mapping) else [output[0]]
    reached = _leaves(each for each in read if isinstance(each, Tensor))
    if not reached:
        return frozenset()  # it was not tracked
    inside = tuple(f"{layer}." for layer in layers)
    outside = {name: tensor for name, tensor in used.items() if not name.startswith(inside)}
    return frozenset(name for name, tensor in outside.items() if tensor.requires_grad and id(tensor) not in reached)


def _leaves(outputs: Iterable[Tensor]) -> set[int]:
    """Ids of the tensors that autograd would hand gradients of these to."""
    found: set[int] = set()
    ahead: list[Any] = [each.grad_fn for each in outputs]
    seen: set[Any] = set()
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        ahead += [each for each, _ in node.next_functions]
    return found
