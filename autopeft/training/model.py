"""What is trained: the backbone with its attached methods, and the task's head."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

from torch import Tensor, nn

from autopeft.backbone.held import held_in
from autopeft.backbone.inputs import bare
from autopeft.backbone.limits import positions_of, types_of
from autopeft.backbone.output import OutputEmbedding
from autopeft.data.packing import POSITIONS
from autopeft.data.states import ROWS
from autopeft.data.store import LABELS, MASK
from autopeft.methods.attached import Attached
from autopeft.tasks.heads import Batch, pool

Inputs = Callable[[Batch], Batch]
"""What a model is called with of a batch: a task's `inputs`."""
Passing = Callable[[Tensor], AbstractContextManager[None]]
"""(rows,) numbers of rows -> while it lasts, these rows pass through the model."""


def as_it_is(batch: Batch) -> Batch:
    """What texts are called with."""
    return batch


class TaskModel(nn.Module):
    """A batch in, the head's output out. What the model has no positions for is cut off, and so are types of tokens
    where it has one type only, or where prompts stand before them. Layers below all that is trained are in eval mode
    always, so that what they compute of a row is the same in every pass.
    """

    passing: Passing | None = None
    """Who keeps the states of such layers, where somebody does, and is told which rows come."""

    def __init__(
        self,
        model: nn.Module,
        head: Any,
        attached: Attached | None = None,
        inputs: Inputs = as_it_is,
        output: OutputEmbedding | None = None,
    ) -> None:
        """`model` is the bare one; what is `attached` to it says what to call. `inputs` are the task's; `output` is
        lent to a head that has no weights of its own.
        """
        super().__init__()
        self.model = attached.model if attached is not None else model
        self.beside = attached.modules if attached is not None else nn.ModuleList()
        self.head: Any = head
        self.output = output
        if output is not None:
            head.borrow(output)
        self.attached = attached
        self.prepended = attached.prepended if attached is not None else 0
        self.held = attached.held if attached is not None else held_in(model)
        """What the backbone's weights are held in."""
        self._inputs = inputs
        self._still = attached.still() if attached is not None else ()
        reader = bare(self.model)
        positions = positions_of(reader)
        self.longest = None if positions is None else positions - self.prepended
        """Tokens that it reads of a text, at most."""
        # peft calls a model without types of tokens where prompts stand before these, and would say so every time.
        typed = types_of(reader) > 1 and not self.prepended
        self._without = {LABELS, ROWS} if typed else {LABELS, ROWS, "token_type_ids"}
        self._extra = {"use_cache": False} if "use_cache" in inspect.signature(reader.forward).parameters else {}

    @property
    def methods(self) -> Attached:
        """What is attached, where something is."""
        assert self.attached is not None, "a bare model is not trained"
        return self.attached

    def read(self, batch: Batch) -> dict[str, Any]:
        """What the model is called with of a batch that is padded on the right."""
        given = self._inputs(batch)
        # Positions keep packed examples apart, and padding is none of them: transformers looks at them without a mask.
        without = self._without | {MASK} if POSITIONS in given else self._without
        return {name: each[:, : self.longest] for name, each in given.items() if name not in without} | self._extra

    def forward(self, batch: Batch) -> Tensor:
        """The head's output for a batch that is padded on the right."""
        output: Tensor = self.head(self.states(batch), batch)
        return output

    def states(self, batch: Batch) -> Tensor:
        """The model's last states, of the batch's own tokens."""
        with self.passing(batch[ROWS]) if self.passing and ROWS in batch else nullcontext():
            states: Tensor = self.model(**self.read(batch)).last_hidden_state[:, self.prepended :]
        return states

    def train(self, mode: bool = True) -> Self:
        """Training or eval mode; what has nothing to train in or below it stays in eval mode."""
        super().train(mode)
        for module in self._still:
            module.training = False
        return self


class States(nn.Module):
    """In the place of a head: pooled states, which need no task."""

    def forward(self, states: Tensor, batch: Batch) -> Tensor:
        return pool(states, batch.get("attention_mask"), "mean")
