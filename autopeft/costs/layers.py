"""Which of a forward pass's operations are each layer's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from autopeft.costs.meter import Meter


@contextmanager
def each_layer(layers: Sequence[nn.Module], meter: Meter) -> Iterator[list[int]]:
    """Floating-point operations of each layer in the passes that a meter watches meanwhile."""
    spent = [0] * len(layers)

    def begins(number: int, *_: Any) -> None:
        spent[number] -= meter.flops

    def ends(number: int, *_: Any) -> None:
        spent[number] += meter.flops

    handles = [layer.register_forward_pre_hook(partial(begins, number)) for number, layer in enumerate(layers)]
    handles += [layer.register_forward_hook(partial(ends, number)) for number, layer in enumerate(layers)]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()
