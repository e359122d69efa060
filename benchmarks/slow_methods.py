"""Seconds that slow methods take on MiniLM, each beside the way in which it was done before, or beside LoRA.

    python benchmarks/slow_methods.py [--rounds 5]

SAID: forward and backward pass of a batch of 32 rows of 24 tokens, with transforms by matrices of 32 features whose
gradient is transformed alike, and with those of 64 features that autograd differentiates. FishMask: the Fisher
information of single rows, squared and added at once, and in two passes over all entries. AdaMSS and FRoD, whose
decompositions are peft's: attaching. Seconds are the processor's, on one thread; all sides in turn, in one process; of
each the fastest round counts.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from unittest.mock import patch

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import Tensor

from autopeft.backbone.load import load_backbone
from autopeft.data.demo import demo_model
from autopeft.methods import fishmask, said
from autopeft.methods.attached import Attached, attach
from autopeft.methods.base import Batches
from autopeft.methods.passes import use_gradients
from autopeft.methods.registry import method

BATCH, TOKENS, SINGLE = 32, 24, 4
"""Rows of a batch, tokens of a row, and rows that are taken alone."""

Timed = tuple[str, str, Callable[[], float]]
"""A method, how it is done, and what takes so many seconds."""


def step(name: str) -> float:
    backbone = load_backbone(str(demo_model()))
    with attach(backbone.model, name, backbone.sites) as attached:
        forward_and_backward(attached)
        return timed(lambda: forward_and_backward(attached))


def forward_and_backward(attached: Attached) -> None:
    ids = torch.randint(1000, 30_000, (BATCH, TOKENS), generator=torch.Generator().manual_seed(0))
    attached.model(input_ids=ids).last_hidden_state.square().mean().backward()


def by_autograd() -> float:
    """SAID as it was."""
    with patch.object(said, "_BLOCK", 64), patch.object(said, "transformed", differentiated):
        return step("said")


def differentiated(x: Tensor, hadamard: Tensor) -> Tensor:
    length, within = len(x), 1
    while within < length:
        size = min(length // within, len(hadamard))
        matrix = hadamard[:size, :size]
        x = (x.view(-1, size) @ matrix if within == 1 else matrix @ x.view(-1, size, within)).view(-1)
        within *= size
    return x


def information(of: Callable[[Sequence[Tensor], Batches], Tensor]) -> float:
    """For each row."""
    backbone = load_backbone(str(demo_model()))
    ids = torch.randint(1000, 30_000, (SINGLE, TOKENS), generator=torch.Generator().manual_seed(0))

    def loss(row: Tensor) -> Tensor:
        states: Tensor = backbone.model(input_ids=row[None]).last_hidden_state
        return states.square().mean()

    def losses() -> Iterator[Callable[[], Tensor]]:
        return (partial(loss, row) for row in ids)

    tensors = [each for each in backbone.model.parameters() if each.ndim]
    return timed(lambda: of(tensors, losses)) / SINGLE


def in_two_passes(tensors: Sequence[Tensor], batches: Batches) -> Tensor:
    """FishMask's as it was."""
    sizes = [tensor.numel() for tensor in tensors]
    fisher = torch.zeros(sum(sizes))
    sums = dict(zip(tensors, torch.split(fisher, sizes), strict=True))

    def add(tensor: Tensor, gradient: Tensor) -> None:
        sums[tensor].add_(gradient.flatten().float().square().cpu())

    use_gradients(tensors, batches, add)
    return fisher


def attaching(name: str) -> float:
    backbone = load_backbone(str(demo_model()))

    def once() -> None:
        with attach(backbone.model, method(name), backbone.sites):
            pass

    return timed(once)


def timed(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


SIDES: Sequence[Timed] = (
    ("LoRA", "a step", lambda: step("lora")),
    ("SAID", "a step", lambda: step("said")),
    ("SAID", "a step, as it was", by_autograd),
    ("FishMask", "a row", lambda: information(fishmask._fisher)),
    ("FishMask", "a row, as it was", lambda: information(in_two_passes)),
    ("LoRA", "attaching", lambda: attaching("lora")),
    ("AdaMSS", "attaching", lambda: attaching("adamss")),
    ("FRoD", "attaching", lambda: attaching("frod")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    taken: list[list[float]] = [[] for _ in SIDES]
    for number in range(options.rounds):
        for seconds, (_, _, act) in zip(taken, SIDES, strict=True):
            seconds.append(act())
        print(f"round {number + 1}: {[round(each[-1], 3) for each in taken]}", flush=True)
    table = Table("method", "what", "seconds, fastest … slowest", box=MARKDOWN)
    for (name, what, _), seconds in zip(SIDES, taken, strict=True):
        table.add_row(name, what, f"{min(seconds):.3f} … {max(seconds):.3f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
