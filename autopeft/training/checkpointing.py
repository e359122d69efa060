"""Gradient checkpointing: less memory for more time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from autopeft.backbone.inputs import bare
from autopeft.errors import CannotAttach


@contextmanager
def checkpointing(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Recomputes activations in the backward pass where wanted. Raises CannotAttach where the architecture cannot.

    transformers also makes the embeddings' output require a gradient, and leaves it so: only reentrant checkpointing
    needs that, and every layer below the first trained one would be differentiated for nothing, in later steps too.
    """
    if not wanted:
        yield
        return
    reader: Any = bare(model)
    if not reader.supports_gradient_checkpointing:
        raise CannotAttach(f"{type(reader).__name__} does not support gradient checkpointing.")
    reader.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    reader.disable_input_require_grads()
    try:
        yield
    finally:
        reader.activation_checkpointing_disable()
