"""What it takes to write texts, on real or fake tensors, watched by a meter: prompts are read at once, then a token of
each is added at a time, and what was read stays in a cache.

Two moments are looked at: reading the prompts, and the last token of the longest texts, when the cache is largest; what
lies between them is less. The cache grows by copies of one layer after another, as transformers' own does. A method
that has no use for a cache reads whole texts. Tokens of prompt methods count as tokens of prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autopeft.backbone.inputs import bare, is_crossed
from autopeft.costs.step import Progress, Spent, metered
from autopeft.data.store import MASK
from autopeft.tasks.texts import IDS
from autopeft.training.asking import at_once
from autopeft.training.generation import CACHED
from autopeft.training.model import TaskModel
from autopeft.training.precision import autocast, precision_of


@dataclass(frozen=True)
class Writing:
    """How long the texts are that a search lets its models write."""

    prompt: int
    """Tokens of the longest prompt."""
    answer: int
    """Tokens of the longest answer."""

    def rows(self, tokens: int) -> int:
        """Texts that are written at once where so many padded tokens are computed at once."""
        return at_once(tokens, self.prompt + self.answer)


class WritingStep(nn.Module):
    """Reading prompts and writing the last token: a module, so that `functional_call` can run it on other tensors."""

    def __init__(
        self, model: TaskModel, writing: Writing, device: torch.device, layers: Sequence[nn.Module] = ()
    ) -> None:
        """`layers` are modules of the backbone whose work is to be told apart."""
        super().__init__()
        self.model = model
        self._prompt, self._answer = _within(model, writing)
        self._device = device
        self._layers = tuple(layers)

    def forward(self, _: Sequence[Tensor], batch: Mapping[str, Tensor]) -> Spent:
        """(rows, prompt) token ids of a batch are gone on with; the work is that of the last token."""
        self.model.eval()
        ids, attached = batch[IDS][:, : self._prompt], self.model.attached
        chosen = attached.chosen if attached is not None else ()
        cached = not any(CACHED in part.method.lacks for part in chosen)
        meter = metered(self.model, batch, self._device)
        precision = precision_of(self._device, self.model.held)
        with torch.no_grad(), autocast(self._device, precision), Progress(meter, self._layers), meter:
            if cached:
                kept = self._read(ids)
                _grow(kept, self._answer - 1)
                before = meter.work
                self._write(ids[:, :1], kept)
            else:
                before = meter.work
                more = ids.new_zeros(len(ids), self._answer)
                self._read(torch.cat([ids, more], dim=1), cached=False)
        return Spent(meter.peak, meter.peak_by_part, meter.flops, meter.peaks, meter.work - before)

    def _read(self, ids: Tensor, cached: bool = True) -> Any:
        inner, beside = self._inner, ids.new_zeros(len(ids), self.model.prepended)
        read = torch.cat([beside, ids], dim=1)
        given = {IDS: read, MASK: _mask(read, read.shape[1]), "use_cache": cached}
        if is_crossed(inner):
            given["decoder_input_ids"] = ids[:, :1]
        made = inner(**given)
        self._logits(made)
        return made.past_key_values

    def _write(self, ids: Tensor, kept: Any) -> None:
        inner = self._inner
        given: dict[str, Any] = {IDS: ids, "use_cache": True, "past_key_values": kept}
        width = self._prompt
        if is_crossed(inner):
            states = ids.new_zeros(len(ids), self._prompt, inner.config.d_model, dtype=self.model.held)
            given = {**given, "decoder_input_ids": ids, "encoder_outputs": (states,)}
            del given[IDS]
        else:
            width += self.model.prepended + self._answer
        given[MASK] = _mask(ids, width)
        self._logits(inner(**given))

    def _logits(self, made: Any) -> None:
        """Of the last tokens, in fp32 beside what they were computed in."""
        assert self.model.output is not None, "a language model has an output embedding"
        self.model.output(made.last_hidden_state[:, -1:]).to(torch.float32, copy=True).argmax(-1)

    @property
    def _inner(self) -> Any:
        """The model itself, whatever wraps it: prompts are among the tokens here."""
        model: Any = self.model.model
        return bare(model.get_base_model() if hasattr(model, "get_base_model") else model)


def _within(model: TaskModel, writing: Writing) -> tuple[int, int]:
    """Tokens of prompt and answer that the model has positions for."""
    if model.longest is None:
        return writing.prompt, writing.answer
    prompt = min(writing.prompt, model.longest)
    # A decoder beside an encoder begins with a token of its own.
    room = model.longest - (1 if is_crossed(model.model) else prompt)
    return prompt, max(1, min(writing.answer, room))


def _mask(ids: Tensor, width: int) -> Tensor:
    """(rows, width) as of texts of different lengths, so that attention needs a mask."""
    mask = ids.new_ones(len(ids), width)
    mask[0, 0] = 0
    return mask


def _grow(kept: Any, tokens: int) -> None:
    """Lets a cache hold so many tokens more, as if they had been written."""
    for layer in getattr(kept, "self_attention_cache", kept).layers:
        most = getattr(layer, "sliding_window", None)
        room = tokens if most is None else max(0, min(tokens, most - 1 - layer.keys.shape[-2]))
        for name in ("keys", "values"):
            held = getattr(layer, name)
            more = held.new_zeros(*held.shape[:-2], room, held.shape[-1])
            setattr(layer, name, torch.cat([held, more], dim=-2))
