"""Text-to-text generation: an encoder reads a text and a decoder writes another one, a summary or a translation.

Learned are the tokens of what is to be written, each after those before it; the decoder begins with the token that the
model's configuration names. Judged is the mean loss of these tokens on validation rows, or what is written. The head is
the model's own output embedding. A dictionary of two languages in one column is a translation of the first into the
second.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch

from autopeft.backbone.inputs import is_crossed
from autopeft.backbone.load import Backbone, Skeleton
from autopeft.data.columns import TEXT, Columns, Role, guess_columns
from autopeft.data.files.contents import storable
from autopeft.data.rows import Rows, require_columns, texts, with_texts
from autopeft.data.store import LABELS, MASK, Column, Dataset, padded
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.space.candidate import Training
from autopeft.tasks.heads import NO_LABEL, Batch
from autopeft.tasks.language_head import CrossedHead
from autopeft.tasks.texts import IDS, key_of, padding_of, require_embeddings, sample_texts
from autopeft.tasks.writing import WritingTask, vocabulary_of

DECODER_IDS = "decoder_input_ids"
_TRANSLATION = "translation"
"""What a column is called that holds both languages."""
_TARGETS = ("target", "summary", "highlights", "completion", "output", "answer", "response", "targets", "labels")
_TEXTS = ("text", "source", "document", "article", "dialogue", "prompt", "instruction", "input", "question", "query")
_SURELY = (("document", "article", "dialogue", "text"), ("summary", "highlights"))
"""Names of texts and of what is made of them that stand for nothing else."""
Pair = tuple[str, str | None]
"""What is read, and what is to be written; None where somebody asks for it."""


@dataclass(frozen=True)
class Text2TextGeneration(WritingTask):
    """Which text is made of another one."""

    start: int = 0
    """The token that a decoder begins with."""
    filling: int = 0
    """What shorter texts are filled up with."""
    written_tokens: int = 0
    """Tokens of the longest text to be written, as batches are padded; 0 where that is not known."""

    name: ClassVar = "text2text-generation"
    aliases: ClassVar = ("SEQ_2_SEQ_LM", "summarization", "translation")
    roles: ClassVar = {"target": Role(TEXT, _TARGETS), "text": Role(TEXT, _TEXTS)}
    target: ClassVar = "text to be written"
    auto_class: ClassVar = "AutoModelForSeq2SeqLM"
    needs: ClassVar[tuple[str, ...]] = ("causal", "crossed")
    peft_type: ClassVar = "SEQ_2_SEQ_LM"
    longest: ClassVar = 512

    @classmethod
    def fits(cls, frame: pd.DataFrame, given: Columns) -> bool:
        if given:
            return False
        names = {str(name).lower() for name in frame.columns}
        return _is_translated(frame) or all(names.intersection(some) for some in _SURELY)

    @classmethod
    def columns(cls, frame: pd.DataFrame, given: Columns) -> Columns:
        if not given and _is_translated(frame):
            return dict.fromkeys(cls.roles, (_TRANSLATION,))
        return guess_columns(frame, cls.roles, given)

    @classmethod
    def sized(cls, labels: int) -> Self:  # noqa: ARG003
        return cls()

    def on(self, backbone: Skeleton) -> Self:
        if not is_crossed(backbone.model):
            raise AutopeftError(
                f"'{backbone.name}' is no encoder with a decoder: {self.name} needs one (T5, BART, Marian …); a causal "
                "model learns with --task text-generation."
            )
        config: Any = backbone.model.config
        start = getattr(config, "decoder_start_token_id", None)
        if start is None:
            start = getattr(config, "pad_token_id", None) or 0
        return replace(super().on(backbone), start=start, filling=getattr(config, "pad_token_id", None) or 0)

    def seen(self, splits: Sequence[Dataset]) -> Self:
        longest = max((int(each.targets.lengths.max()) for each in splits), default=0)
        return replace(self, written_tokens=padded(longest))

    @property
    def identity(self) -> str:
        return self.name

    @property
    def why_not_written(self) -> str:
        return ""

    @classmethod
    def understand(cls, frame: pd.DataFrame, columns: Columns) -> tuple[Self, Sequence[str]]:
        if columns["text"] != columns["target"]:
            return cls(), []
        one, other = next(iter(frame[_TRANSLATION]))
        return cls(), [f"translated: {brief(one)} into {brief(other)}, as the column '{_TRANSLATION}' names them"]

    def rows(self, frame: pd.DataFrame, columns: Columns, split: str) -> Rows:
        require_columns(frame, columns, split)
        frame, (text, target) = _apart(frame, columns)
        found = zip(*(texts(frame, (each,), split) for each in (text, target)), strict=True)
        pairs = tuple((one, other) for (one,), (other,) in found)
        return Rows(pairs, Column(np.zeros(len(pairs), dtype=np.int8)))

    def complete(self, frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
        parted, names = _apart(frame, columns)
        return frame[with_texts(parted, names[:1]) & with_texts(parted, names[1:])]

    def described(self, train: Rows) -> Sequence[str]:
        words = [len(str(each[1]).split()) for each in train.inputs if isinstance(each, tuple)]
        return (f"learned: what is to be written, {np.mean(words):.0f} words on average",)

    def encoded(self, inputs: Sequence[Any], backbone: Backbone, max_length: int) -> Mapping[str, Column]:
        tokenizer, filling = backbone.tokenizer, padding_of(backbone.tokenizer, backbone.vocabulary)
        read = [each or [filling] for each in _tokens(tokenizer, [text for text, _ in inputs], max_length)]
        end = _end_of(backbone)
        labels = [[NO_LABEL, *_ended(ids, end, max_length)] for ids in self._goals(inputs, backbone, max_length)]
        ids = [*read, *(each[1:] or [filling] for each in labels)]
        require_embeddings(tokenizer, ids, vocabulary_of(backbone))
        return {IDS: Column.ragged(read, np.int32, filling), LABELS: Column.ragged(labels, np.int32, NO_LABEL)}

    def _goals(self, inputs: Sequence[Pair], backbone: Backbone, max_length: int) -> Sequence[list[int]]:
        """Tokens of what is to be written; none where somebody asks for it."""
        known = [target for _, target in inputs if target is not None]
        made = iter(_tokens(backbone.tokenizer, known, max_length, as_target=True))
        return [[] if target is None else next(made) for _, target in inputs]

    def encode(self, rows: Rows, backbone: Backbone, max_length: int) -> Dataset:
        return Dataset(self.encoded(rows.inputs, backbone, max_length), max_length)

    def learned(self, split: Dataset) -> np.ndarray:
        # The first label stands for what a decoder begins with, which nobody learns.
        return split.targets.lengths - 1

    def parted(self, ids: np.ndarray, labels: np.ndarray) -> tuple[list[int], list[int]]:
        return ids.tolist(), labels[labels != NO_LABEL].tolist()

    def lost(self, rows: Rows, data: Dataset) -> str:
        cut = int(np.count_nonzero(data.lengths >= data.longest))
        return f"of {len(rows):,} examples cut after {data.longest:,} tokens (--max-length): {cut:,}" if cut else ""

    def key(self, backbone: Backbone, max_length: int) -> str:
        said = f"{_end_of(backbone)} {key_of(backbone.tokenizer, max_length, backbone.vocabulary)}"
        return hashlib.sha256(said.encode()).hexdigest()

    def shapes(self, length: int) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        both = dict.fromkeys((IDS, MASK), (torch.long, (length,)))
        return {**both, LABELS: (torch.long, (self.written_tokens or length,))}

    def inputs(self, batch: Batch) -> Batch:
        labels = batch[LABELS]
        before = torch.full_like(labels[:, :1], self.start)
        after = labels[:, 1:].masked_fill(labels[:, 1:] == NO_LABEL, self.filling)
        return {**batch, DECODER_IDS: torch.cat([before, after], dim=1)}

    def new_head(self, width: int, training: Training) -> CrossedHead:  # noqa: ARG002
        return CrossedHead()

    def samples(self, backbone: Backbone) -> Sequence[Pair]:
        return [(text, None) for text in sample_texts(backbone.tokenizer)]

    def asked(self, given: Any) -> tuple[Sequence[Pair], bool]:
        """One is a text, or a mapping as a row has it; a list of such is many."""
        many = given.tolist() if hasattr(given, "tolist") else given
        if isinstance(many, Iterator):
            many = list(many)
        is_one = not isinstance(many, list | tuple)
        return [_pair_of(each) for each in ([many] if is_one else many)], is_one

    def prompts(self, inputs: Sequence[Any], backbone: Backbone) -> Sequence[Sequence[int]]:
        found = _tokens(backbone.tokenizer, [text for text, _ in inputs], backbone.positions)
        if not all(found):
            raise AutopeftError("there is nothing to read in a text of no tokens; give one with words.")
        return found

    def ends(self, backbone: Backbone) -> frozenset[int]:
        return frozenset([_end_of(backbone)])


def _tokens(tokenizer: Any, read: Sequence[str], longest: int | None, as_target: bool = False) -> list[list[int]]:
    """Of texts that are read, or that are to be written, of which some tokenizers have others."""
    if not read:
        return []
    name = "text_target" if as_target else "text"
    made = tokenizer(**{name: list(read)}, truncation=longest is not None, max_length=longest)
    found: list[list[int]] = made["input_ids"]
    return found


def _ended(ids: list[int], end: int, longest: int) -> list[int]:
    """With an end where it lacks one, unless it was cut, or there is nothing."""
    return ids if not ids or ids[-1] == end or len(ids) >= longest else [*ids, end]


def _end_of(backbone: Backbone) -> int:
    """The token that a text is over at. Raises AutopeftError where there is none."""
    config: Any = backbone.model.config
    for end in (getattr(backbone.tokenizer, "eos_token_id", None), getattr(config, "eos_token_id", None)):
        if isinstance(end, int):
            return end
    raise AutopeftError(f"the tokenizer of '{backbone.name}' has no token for the end of a text (eos_token); name one.")


def _is_translated(frame: pd.DataFrame) -> bool:
    """Whether there is a column of dictionaries of the same two languages."""
    if _TRANSLATION not in frame.columns or not len(frame):
        return False
    cells = list(frame[_TRANSLATION])
    return all(isinstance(each, Mapping) and len(each) == 2 and each.keys() == cells[0].keys() for each in cells)


def _apart(frame: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, tuple[str, str]]:
    """A frame with the text and what is to be written in columns of their own, and their names."""
    (text,), (target,) = columns["text"], columns["target"]
    if text != target:
        return frame, (text, target)
    if not _is_translated(frame):
        raise AutopeftError(f"column '{text}' must hold a dictionary of the same two languages in every row.")
    one, other = next(iter(frame[text]))
    return pd.DataFrame({name: [each[name] for each in frame[text]] for name in (one, other)}), (str(one), str(other))


def _pair_of(given: Any) -> Pair:
    """Raises AutopeftError for what is neither a text nor a row."""
    text, target = (given, None) if isinstance(given, str) else _of_row(given)
    if text is None:
        raise AutopeftError(f"give a text, or a row such as {{'text': …}}, not {brief(given)}.")
    return storable(text), None if target is None else storable(target)


def _of_row(given: Any) -> tuple[str | None, str | None]:
    """The text and what is to be written of it, as far as a row has them."""
    if not isinstance(given, Mapping):
        return None, None
    if isinstance(both := given.get(_TRANSLATION), Mapping) and len(both) == 2:
        one, other = both.values()
        return str(one), None if other is None else str(other)
    text = next((given[name] for name in _TEXTS if isinstance(given.get(name), str)), None)
    return text, next((given[name] for name in _TARGETS if isinstance(given.get(name), str)), None)
