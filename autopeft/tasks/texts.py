"""Texts as a task reads them: single ones or pairs, from columns to tokens.

Pairs are encoded as the tokenizer does it, or joined by a newline where it puts nothing between the texts.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from autopeft.backbone.load import Backbone
from autopeft.data.columns import PAIRS, TEXT, TEXTS, Columns, Role
from autopeft.data.rows import Rows, require_columns, texts, with_texts
from autopeft.data.store import LABELS, MASK, Column
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.tasks.asked import rows_of
from autopeft.tasks.base import Task

IDS, TYPES = "input_ids", "token_type_ids"
ROLE = Role(TEXT, TEXTS, PAIRS, most=2)
_CHUNK = 1000
"""Texts that are encoded at a time."""
_SAMPLES = (0, 1, 3, 7, 14, 26)
"""Where sample texts end in a list of words."""


@dataclass(frozen=True)
class TextTask(Task, ABC):
    """What is learned of whole texts, or pairs of texts."""

    text: tuple[str, ...]
    """Their columns in the training data."""

    pipeline: ClassVar = "text-classification"
    auto_class: ClassVar = "AutoModelForSequenceClassification"
    label_shape: ClassVar[tuple[torch.dtype, tuple[int, ...]]] = (torch.long, ())
    """Of what is to be learned of one text."""

    def __post_init__(self) -> None:
        if len(self.text) > ROLE.most:
            raise ValueError(f"text is {brief(self.text)}")

    def rows(self, frame: pd.DataFrame, columns: Columns, split: str) -> Rows:
        require_columns(frame, columns, split)
        targets = self.targets(frame, columns, split)
        return Rows(texts(frame, columns["text"], split), Column(targets))

    @property
    def asks(self) -> tuple[str, str]:
        return super().asks if len(self.text) < 2 else ('("…", "…")', '{"text": "…", "text_pair": "…"}')

    @abstractmethod
    def targets(self, frame: pd.DataFrame, columns: Columns, split: str) -> np.ndarray:
        """(rows, …) what is to be learned. Raises AutopeftError."""

    @abstractmethod
    def known(self, frame: pd.DataFrame, columns: Columns) -> "pd.Series[bool]":
        """Which rows have something that can be learned, or held against an answer."""

    def complete(self, frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
        return frame[self.known(frame, columns) & with_texts(frame, columns["text"])]

    def encoded(self, inputs: Sequence[Any], backbone: Backbone, max_length: int) -> Mapping[str, Column]:
        return encode(backbone.tokenizer, inputs, max_length, backbone.vocabulary)

    def key(self, backbone: Backbone, max_length: int) -> str:
        return key_of(backbone.tokenizer, max_length, backbone.vocabulary)

    def samples(self, backbone: Backbone) -> Sequence[Any]:
        texts = sample_texts(backbone.tokenizer)
        return [(one, other)[: len(self.text)] for one, other in zip(texts, reversed(texts), strict=True)]

    def shapes(self, length: int) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        return {IDS: (torch.long, (length,)), MASK: (torch.long, (length,)), LABELS: self.label_shape}

    def asked(self, given: Any) -> tuple[Sequence[Any], bool]:
        return rows_of(given, self.text)


def encode(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tuple[str, ...]],
    longest: int,
    vocabulary: int | None = None,
) -> dict[str, Column]:
    """Token ids of texts or pairs and, where the tokenizer makes them, types.

    `vocabulary` is how many tokens the model has embeddings for. Raises AutopeftError for a token that it has none for.
    A text of no tokens becomes a padding token, because a model needs something to look at.
    """
    filling = padding_of(tokenizer, vocabulary)
    ids: list[Any] = []
    types: list[Any] = []
    separated = not rows or len(rows[0]) < 2 or separates_pairs(tokenizer)
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        first, second = [row[0] for row in chunk], [row[1] for row in chunk] if len(rows[0]) == 2 else None
        if second is not None and not separated:
            first, second = [f"{one}\n{other}" for one, other in zip(first, second, strict=True)], None
        encoded = tokenizer(first, second, truncation=True, max_length=longest)
        ids += [np.asarray(row or [filling], dtype=np.int32) for row in encoded["input_ids"]]
        types += [np.asarray(row or [0], dtype=np.int8) for row in encoded.get("token_type_ids", ())]
    require_embeddings(tokenizer, ids, vocabulary)
    columns = {IDS: Column.ragged(ids, np.int32, filling)}
    return {**columns, TYPES: Column.ragged(types, np.int8)} if types else columns


def padding_of(tokenizer: PreTrainedTokenizerBase, vocabulary: int | None) -> int:
    """What shorter texts are filled up with: any token where the tokenizer's own is none of the model's."""
    token = tokenizer.pad_token_id
    return token if token is not None and (vocabulary is None or token < vocabulary) else 0


def require_embeddings(tokenizer: PreTrainedTokenizerBase, ids: Sequence[Any], vocabulary: int | None) -> None:
    """Raises AutopeftError for a token that the model has no embedding for."""
    highest = max((int(max(row)) for row in ids), default=0)
    if vocabulary is not None and highest >= vocabulary:
        token = brief(tokenizer.convert_ids_to_tokens(highest))
        raise AutopeftError(
            f"the tokenizer makes the token {token} of these texts, its number {highest:,}, but the model has "
            f"embeddings for {vocabulary:,} tokens: the tokenizer is another model's, or the model was not resized "
            "when tokens were added (`model.resize_token_embeddings`)."
        )


def key_of(tokenizer: PreTrainedTokenizerBase, longest: int, vocabulary: int | None) -> str:
    """Tells two ways of encoding apart."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    # Truncation and padding are what the tokenizer was last called with, no part of what it is.
    whole = json.loads(backend.to_str()) | {"truncation": None, "padding": None} if backend is not None else None
    what = json.dumps(whole) if whole is not None else tokenizer.name_or_path
    said = f"{longest} {padding_of(tokenizer, vocabulary)} {tokenizer.truncation_side} {vocabulary} {what}"
    return hashlib.sha256(said.encode()).hexdigest()


def sample_texts(tokenizer: PreTrainedTokenizerBase) -> Sequence[str]:
    """Short and longer texts of the tokenizer's own words, always the same."""
    special = {*tokenizer.all_special_ids}
    ids = [index for index in sorted(tokenizer.get_vocab().values()) if index not in special]
    chosen = [ids[place * len(ids) // _SAMPLES[-1]] for place in range(_SAMPLES[-1])]
    return [str(tokenizer.decode(chosen[start:end])) for start, end in pairwise(_SAMPLES)]


def separates_pairs(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it puts something between two texts."""
    pair = tokenizer("a", "b")["input_ids"]
    joined = [token for text in ("a", "b") for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    return not any(pair[start : start + len(joined)] == joined for start in range(len(pair)))
