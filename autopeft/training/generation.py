"""How a language model goes on with prompts: transformers' own `generate`, with what is attached to the model.

Greedy, whatever a model's generation config would rather have, so that an answer is the same each time. Prompts of a
batch are padded on the left, each with its own positions (what an encoder reads is on the right), and an answer is over
at an end token. What a prompt method
puts before texts stands between padding and text: tokens hold its places, and their embeddings are replaced. Rows that
still have room when the longest of their batch has none left are gone on with, so that an answer does not depend on
what it was asked beside.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from autopeft.backbone.held import held_in
from autopeft.backbone.inputs import is_crossed
from autopeft.backbone.limits import positions_of
from autopeft.backbone.load import Backbone
from autopeft.errors import AutopeftError
from autopeft.methods.attached import Attached
from autopeft.methods.passes import evaluating
from autopeft.tasks.texts import padding_of
from autopeft.training.precision import autocast, precision_of

CACHED, PROMPT = "cached", "prompt"
"""Capabilities of methods: without the one texts are read whole for every token, without the other none is written."""
ROWS = 32
"""Prompts that are gone on with at once, where nobody says how many."""
Tokens = Sequence[int]
_PLAIN: Any = GenerationConfig


class _Asking(StoppingCriteria):
    """Ends nothing by itself: before each token it asks, who may raise."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:  # noqa: ARG002
        self._ask()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def writer(
    backbone: Backbone,
    ends: Iterable[int],
    attached: Attached | None = None,
    precision: str | None = None,
    ask: Callable[[], object] | None = None,
) -> "Writer":
    """Of a language model; an answer is over at these ends, and at those that its generation config names."""
    whole: Any = backbone.whole
    assert whole is not None, "a language model is loaded as one"
    own = whole.generation_config.eos_token_id
    more = own if isinstance(own, list) else [own]
    over = frozenset(token for token in (*ends, *more) if token is not None)
    return Writer(whole, over, padding_of(backbone.tokenizer, backbone.vocabulary), attached, precision, ask)


@dataclass(frozen=True)
class Writer:
    """A language model that goes on with prompts."""

    whole: Any
    """The model of transformers, head and all, that the backbone is a part of."""
    ends: frozenset[int]
    """Tokens that an answer is over at."""
    filling: int
    """What shorter prompts are filled up with."""
    attached: Attached | None = None
    """What is on its backbone."""
    precision: str | None = None
    """What is computed in, where that is not as in training."""
    ask: Callable[[], object] | None = None
    """Is called for each token, and may raise what ends the writing."""

    def __call__(
        self,
        prompts: Sequence[Tokens],
        most: int,
        rows: int = ROWS,
        *,
        cached: bool | None = None,
        streamer: BaseStreamer | None = None,
    ) -> list[list[int]]:
        """For each prompt, which has at least one token, what comes after it: `most` tokens at most, without an end
        token. As many `rows` are computed at once; a `streamer` of transformers hears of the tokens of one.

        Without a cache where a method has no use for one. Raises AutopeftError for a prompt that is longer than the
        model can read.
        """
        self._require_room(prompts)
        cached = not self._lacking(CACHED) if cached is None else cached
        found: list[list[int]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
        with self._plainly():
            for start in range(0, len(order), rows):
                self._write(prompts, found, order[start : start + rows], most, cached, streamer)
        return found

    @property
    def _crossed(self) -> bool:
        return is_crossed(self.whole)

    @property
    def longest(self) -> int | None:
        """Tokens that the model reads of a text; None where there is no limit."""
        positions = positions_of(self.whole.base_model)
        return None if positions is None else positions - self._before

    @property
    def _before(self) -> int:
        return self.attached.prepended if self.attached is not None else 0

    @torch.no_grad()
    def _write(
        self,
        prompts: Sequence[Tokens],
        found: Sequence[list[int]],
        numbers: Sequence[int],
        most: int,
        cached: bool,
        streamer: BaseStreamer | None,
    ) -> None:
        """Fills in what is found of some prompts, in one pass, or in several where rows have room left after one."""
        if self._crossed:
            room = most if self.longest is None else min(most, self.longest)
            read = [prompts[number] for number in numbers]
            for number, ids in zip(numbers, self._passed(read, room, cached, streamer), strict=True):
                found[number] += ids
            return
        open_ = list(numbers)
        while open_:
            texts = [[*prompts[number], *found[number]] for number in open_]
            longest = max(map(len, texts))
            left = most - len(found[open_[0]])
            # The last of all tokens needs no position: nothing is read after it.
            room = left if self.longest is None else min(left, self.longest - longest + 1)
            for number, more in zip(open_, self._passed(texts, room, cached, streamer), strict=True):
                found[number] += more
            # What an end token cut off is shorter than there was room for.
            reach = [number for number, text in zip(open_, texts, strict=True) if len(text) < longest]
            open_ = [each for each in reach if len(found[each]) == most - left + room < most]

    def _passed(
        self, texts: Sequence[Tokens], room: int, cached: bool, streamer: BaseStreamer | None
    ) -> Iterator[list[int]]:
        """What comes after each of these texts, in one pass, up to its end."""
        device = next(self.whole.parameters()).device
        longest = max(map(len, texts))
        before, width = [self.filling] * self._before, self._before + longest
        rows, masks = [], []
        for text in texts:
            padding = longest - len(text)
            rows.append([self.filling] * padding + before + [*text])
            masks.append([0] * padding + [1] * (self._before + len(text)))
        more: dict[str, Any] = {}
        if self._crossed:
            # An encoder reads from the first position on; its decoder begins with a token of its own.
            rows = [[*text, *[self.filling] * (longest - len(text))] for text in texts]
            masks = [[1] * len(text) + [0] * (longest - len(text)) for text in texts]
            config, width = self.whole.config, 1
            start = getattr(config, "decoder_start_token_id", None)
            more["decoder_start_token_id"] = start if start is not None else getattr(config, "pad_token_id", None) or 0
        ids, mask = torch.tensor(rows, device=device), torch.tensor(masks)
        settings = _PLAIN(
            max_new_tokens=room,
            do_sample=False,
            use_cache=cached,
            eos_token_id=sorted(self.ends) or None,
            pad_token_id=self.filling,
            **more,
        )
        held = held_in(self.whole.base_model)
        with self._prompted(mask.to(device)), autocast(device, self.precision or precision_of(device, held)):
            made: Tensor = self.whole.generate(
                input_ids=ids,
                attention_mask=mask.to(device),
                generation_config=settings,
                streamer=streamer,
                stopping_criteria=[_Asking(self.ask)] if self.ask else None,
            )
        for row in made[:, width:].tolist():
            yield row[: next((at for at, token in enumerate(row) if token in self.ends), len(row))]

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Nothing trains, nothing is recorded, and the model's own wishes for its answers are left aside."""
        own, self.whole.generation_config = self.whole.generation_config, _PLAIN()
        beside = self.attached.modules if self.attached is not None else nn.ModuleList()
        try:
            with evaluating(self.whole), evaluating(beside):
                yield
        finally:
            self.whole.generation_config = own

    @contextmanager
    def _prompted(self, mask: Tensor) -> Iterator[None]:
        """Meanwhile virtual tokens have their embeddings, where a text begins: the mask is (rows, length)."""
        if not self._before or self.attached is None:
            yield
            return
        starts = mask.argmax(1, keepdim=True)
        places = (starts + torch.arange(self._before, device=mask.device)).unsqueeze(-1)
        prompt = self.attached.prompt()

        def replaced(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            # With a cache only the first pass reads where texts begin.
            if output.shape[1] < mask.shape[1]:
                return output
            width = output.shape[-1]
            return output.scatter(1, places.expand(-1, -1, width), prompt.to(output).expand(len(output), -1, width))

        handle = self.whole.get_input_embeddings().register_forward_hook(replaced)
        try:
            yield
        finally:
            handle.remove()

    def _lacking(self, capability: str) -> str:
        """The first reason why what is attached has not this capability; empty where it has."""
        chosen = self.attached.chosen if self.attached is not None else ()
        return next((part.method.lacks[capability] for part in chosen if capability in part.method.lacks), "")

    def _require_room(self, prompts: Sequence[Tokens]) -> None:
        if why := self._lacking(PROMPT):
            raise AutopeftError(f"with this method no text can be written: {why}.")
        longest = max(map(len, prompts), default=0)
        if self.longest is not None and longest > self.longest:
            raise AutopeftError(
                f"a prompt has {longest:,} tokens, and the model reads {self.longest:,}: shorten it, or begin a new "
                "conversation."
            )
