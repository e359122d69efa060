"""What a trained language model writes, as people ask for it: after a text, or as the next turn of a conversation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TextStreamer

from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.training.generation import writer
from autopeft.training.precision import repeated

if TYPE_CHECKING:
    from autopeft.artifacts.trained import TrainedModel

MOST = 256
"""Tokens of an answer, at most, where nobody says how many."""


class _Stream(TextStreamer):
    """Tells somebody each piece of a text, once its characters are whole."""

    def __init__(self, tokenizer: Any, tell: Callable[[str], object]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._tell = tell

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002
        if text:
            self._tell(text)


def written(
    trained: "TrainedModel", given: Any, most: int, batch_size: int, stream: Callable[[str], object] | None = None
) -> Any:
    """The text after one prompt, or a list of those after many. Raises AutopeftError."""
    for name, value in (("max_new_tokens", most), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise AutopeftError(f"{name} must be at least 1, not {brief(value)}.")
    task, backbone = trained.task, trained.backbone
    inputs, single = task.asked(given)
    prompts = task.prompts(inputs, backbone)
    if stream is not None and len(prompts) != 1:
        raise AutopeftError(f"one text is streamed at a time, and {len(prompts):,} prompts were given; leave it out.")
    device = next(trained.model.parameters()).device
    precision = repeated(trained.description.precision, device, trained.model.held)
    write = writer(backbone, task.ends(backbone), trained.attached, precision)
    streamer = _Stream(backbone.tokenizer, stream) if stream is not None else None
    found = [
        str(backbone.tokenizer.decode(ids, skip_special_tokens=True))
        for ids in write(prompts, most, batch_size, streamer=streamer)
    ]
    return found[0] if single else found
