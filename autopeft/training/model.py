"""What is trained: the backbone with its attached methods, and the task's head."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from autopeft.backbone.inputs import bare
from autopeft.backbone.limits import positions_of, types_of
from autopeft.data.store import LABELS
from autopeft.methods.attached import Attached
from autopeft.tasks.heads import Batch, pool

Inputs = Callable[[Batch], Batch]
"""What a model is called with of a batch: a task's `inputs`."""


def as_it_is(batch: Batch) -> Batch:
    """What texts are called with."""
    return batch


class TaskModel(nn.Module):
    """A batch in, the head's output out. What the model has no positions for is cut off, and so are types of tokens
    where it has one type only, or where prompts stand before them.
    """

    def __init__(
        self,
        model: nn.Module,
        head: nn.Module,
        attached: Attached | None = None,
        inputs: Inputs = as_it_is,
    ) -> None:
        """`model` is the bare one; what is `attached` to it says what to call. `inputs` are the task's."""
        super().__init__()
        self.model = attached.model if attached is not None else model
        self.beside = attached.modules if attached is not None else nn.ModuleList()
        self.head: Any = head
        self.attached = attached
        self.prepended = attached.prepended if attached is not None else 0
        self._inputs = inputs
        reader = bare(self.model)
        positions = positions_of(reader)
        self._longest = None if positions is None else positions - self.prepended
        # peft calls a model without types of tokens where prompts stand before these, and would say so every time.
        typed = types_of(reader) > 1 and not self.prepended
        self._without = {LABELS} if typed else {LABELS, "token_type_ids"}
        self._extra = {"use_cache": False} if "use_cache" in inspect.signature(reader.forward).parameters else {}

    @property
    def methods(self) -> Attached:
        """What is attached, where something is."""
        assert self.attached is not None, "a bare model is not trained"
        return self.attached

    def read(self, batch: Batch) -> dict[str, Any]:
        """What the model is called with of a batch that is padded on the right."""
        given = self._inputs(batch).items()
        return {name: each[:, : self._longest] for name, each in given if name not in self._without} | self._extra

    def forward(self, batch: Batch) -> Tensor:
        """The head's output for a batch that is padded on the right."""
        states = self.model(**self.read(batch)).last_hidden_state[:, self.prepended :]
        output: Tensor = self.head(states, batch)
        return output


class States(nn.Module):
    """In the place of a head: pooled states, which need no task."""

    def forward(self, states: Tensor, batch: Batch) -> Tensor:
        return pool(states, batch.get("attention_mask"), "mean")
