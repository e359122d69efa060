"""Which of a forward pass's work is each layer's, and what frozen ones of them save."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from autopeft.costs.meter import Meter
from autopeft.costs.work import FROZEN, Work
from autopeft.space.candidate import Training


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


def kept(of_a_row: Work, training: Training) -> Mapping[str, int]:
    """What frozen layers whose states are kept would compute of a batch, from what they do on one row."""
    work = of_a_row.of_batch(training.at_once).times(training.batch_size / training.at_once)
    return {"frozen_flops": training.batch_size * of_a_row.flops, **work.named(FROZEN)}


NOTHING_KEPT: Mapping[str, int] = {"frozen_flops": 0, **Work().named(FROZEN)}
