"""A method or hybrid as lists tell of it: plain values, which need none of the libraries that make them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Overview:
    """A method or hybrid at its defaults."""

    name: str
    family: str
    summary: str
    paper: str
    trainable: int | None
    """Parameters that it trains on BERT-base; None where it cannot be attached to it."""
    merges: bool
    """Whether it can be folded into the weights."""
    exports: bool
    """Whether it is saved in peft's own format."""
    may_freeze: bool
    """Whether it can leave the lowest layers as they are."""
