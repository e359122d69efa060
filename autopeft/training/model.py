"""What is trained: the model with its attached methods, a pooling of its states, and the task's head."""

import inspect
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from autopeft.backbone.limits import positions_of, types_of
from autopeft.errors import unknown

POOLINGS = ("mean", "first", "last")


class Carrier(Protocol):
    """A model to call, with or without methods on it."""

    model: nn.Module
    modules: nn.ModuleList

    @property
    def prepended(self) -> int:
        """Positions before the real tokens in the model's output."""


class Bare:
    """A model with nothing attached to it."""

    prepended = 0

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = nn.ModuleList()


class Classifier(nn.Module):
    """Token ids in, logits out. What the model has no positions for is cut off, and so are types of tokens where it
    has one type only.
    """

    def __init__(self, carrier: Carrier, head: nn.Module, pooling: str) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise unknown("pooling", pooling, POOLINGS)
        self.model = carrier.model
        self.beside = carrier.modules
        self.head = head
        self._prepended = carrier.prepended
        self._pooling = pooling
        bare = getattr(self.model, "base_model", self.model)
        positions = positions_of(bare)
        self._longest = None if positions is None else positions - carrier.prepended
        self._without = () if types_of(bare) > 1 else ("token_type_ids",)
        self._extra = {"use_cache": False} if "use_cache" in inspect.signature(bare.forward).parameters else {}

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(batch, classes) logits of a batch (batch, length) that is padded on the right."""
        inputs = {name: each[:, : self._longest] for name, each in inputs.items() if name not in self._without}
        states = self.model(**inputs, **self._extra).last_hidden_state[:, self._prepended :]
        pooled = pool(states, inputs["attention_mask"], self._pooling)
        logits: Tensor = self.head(pooled)
        return logits


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """(batch, length, width) states of real tokens -> (batch, width) in fp32; padding may be on either side."""
    states = states.float()
    if pooling == "mean":
        real = mask.unsqueeze(-1) != 0
        return states.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)
    rows = torch.arange(len(mask), device=mask.device)
    if pooling == "first":
        return states[rows, mask.int().argmax(1)]
    return states[rows, mask.shape[1] - 1 - mask.flip(1).int().argmax(1)]
