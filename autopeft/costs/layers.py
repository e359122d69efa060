"""Which of a forward pass's work is each layer's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from autopeft.costs.meter import Meter
from autopeft.costs.work import Work


@contextmanager
def each_layer(layers: Sequence[nn.Module], meter: Meter) -> Iterator[list[Work]]:
    """The work of each layer in the passes that a meter watches meanwhile."""
    spent = [Work()] * len(layers)

    def begins(number: int, *_: Any) -> None:
        spent[number] -= meter.work

    def ends(number: int, *_: Any) -> None:
        spent[number] += meter.work

    handles = [layer.register_forward_pre_hook(partial(begins, number)) for number, layer in enumerate(layers)]
    handles += [layer.register_forward_hook(partial(ends, number)) for number, layer in enumerate(layers)]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()
