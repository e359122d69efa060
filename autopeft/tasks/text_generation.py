"""Text generation: a language model learns how texts go on, from conversations, prompts with completions, or texts.

Learned are completions, and turns of the assistant, wherever they can be told; judged is the mean loss of their tokens
on validation rows. The head is the model's own output embedding. What the model gets to read is shown, and which of its
tokens are learned.
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
from autopeft.data import conversations
from autopeft.data.columns import Columns
from autopeft.data.conversations import CONVERSATION, FORMS, PLAIN, Example
from autopeft.data.rows import Rows, require_columns
from autopeft.data.store import LABELS, MASK, Column, Dataset
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.plan import ALL, COMPLETION, LOSS_ON
from autopeft.space.candidate import Training
from autopeft.tasks.base import InPrompt
from autopeft.tasks.heads import NO_LABEL
from autopeft.tasks.in_prompt import asked_after
from autopeft.tasks.language_head import LanguageModelHead
from autopeft.tasks.metrics import LOSS, PERPLEXITY, Array, Metric
from autopeft.tasks.recalled import recalled
from autopeft.tasks.rendering import Rendered, asking, ends, rendered, require_end, template_of, tokens
from autopeft.tasks.texts import IDS, key_of, padding_of, require_embeddings, sample_texts
from autopeft.tasks.writing import WritingTask, vocabulary_of

_SHOWN = 2
"""Rows that are shown as the model reads them."""
_LONGEST = 300
"""Characters at either end of such a row."""
_SEEN = 200
"""Rows that are looked at for what templates do to them."""
_LEARNED = {
    CONVERSATION: "what the assistant says",
    conversations.CONTINUATION: "completions",
    PLAIN: "whole texts",
}
_ALL_LEARNED = "all that is read, up to the end of the last answer (--loss-on all)"


@dataclass(frozen=True)
class TextGeneration(WritingTask):
    """How texts go on."""

    form: str
    """What rows are: a conversation, a continuation (a prompt with its completion), or a text."""
    loss_on: str = COMPLETION
    """What is learned of them: completions, or all that is read up to the end of the last one."""

    name: ClassVar = "text-generation"
    aliases: ClassVar = ("CAUSAL_LM", "sft")
    roles: ClassVar = conversations.ROLES
    noun: ClassVar = "example"
    target: ClassVar = "answer"
    pipeline: ClassVar = name
    auto_class: ClassVar = "AutoModelForCausalLM"
    needs: ClassVar[tuple[str, ...]] = ("causal",)
    peft_type: ClassVar = "CAUSAL_LM"
    longest: ClassVar = 1024

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form is {brief(self.form)}, not one of {', '.join(FORMS)}")
        if self.loss_on not in LOSS_ON:
            raise ValueError(f"loss_on is {brief(self.loss_on)}, not one of {', '.join(LOSS_ON)}")

    @classmethod
    def fits(cls, frame: pd.DataFrame, given: Columns) -> bool:
        return conversations.is_meant(frame, given)

    @classmethod
    def columns(cls, frame: pd.DataFrame, given: Columns) -> Columns:
        return conversations.guess(frame, given)

    @classmethod
    def sized(cls, labels: int) -> Self:  # noqa: ARG003
        return cls(PLAIN)

    def on(self, backbone: Skeleton) -> Self:
        if is_crossed(backbone.model):
            raise AutopeftError(
                f"'{backbone.name}' has an encoder beside its decoder, and learns with --task text2text-generation: "
                f"{self.name} needs a causal model (GPT-2, Llama, Qwen, Gemma …)."
            )
        return super().on(backbone)

    def learning(self, loss_on: str) -> Self:
        return replace(self, loss_on=loss_on)

    @property
    def identity(self) -> str:
        return f"{self.name} {self.form}" + (f" {ALL}" if self.loss_on == ALL else "")

    @property
    def prompted(self) -> bool:
        # Where prompts are learned too, they are judged, and those with examples in them are others.
        return self.form != PLAIN and self.loss_on != ALL

    @property
    def why_not_written(self) -> str:
        if self.form == PLAIN:
            return "whole texts have no prompt to go on with"
        return "what is learned of rows is not their answers alone (--loss-on all)" if self.loss_on == ALL else ""

    @property
    def in_turns(self) -> bool:
        return self.form == CONVERSATION

    @property
    def asks(self) -> tuple[str, str]:
        if self.form == CONVERSATION:
            return '[{"role": "user", "content": "…"}]', '[{"role": "user", "content": "…"}]'
        return super().asks

    @classmethod
    def understand(cls, frame: pd.DataFrame, columns: Columns) -> tuple[Self, Sequence[str]]:
        conversations.examples(frame, columns, "train")
        return cls(conversations.form_of(frame, columns)), []

    def rows(self, frame: pd.DataFrame, columns: Columns, split: str) -> Rows:
        require_columns(frame, columns, split)
        found = conversations.examples(frame, columns, split)
        return Rows(found, Column(np.zeros(len(found), dtype=np.int8)))

    def complete(self, frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
        return frame[conversations.readable(frame, columns)]

    def described(self, train: Rows) -> Sequence[str]:
        some = [each.read for each in train.inputs if isinstance(each, Example)]
        turns = [len(each["messages"]) for each in some if "messages" in each]
        said = f"learned: {_ALL_LEARNED if self.loss_on == ALL else _LEARNED[self.form]}"
        return (f"{said}; turns of a conversation: {np.mean(turns):.1f} on average" if turns else said,)

    def encoded(self, inputs: Sequence[Any], backbone: Backbone, max_length: int) -> Mapping[str, Column]:
        return self._columns(list(self._tokens(inputs, backbone, max_length)), backbone)

    def encode(self, rows: Rows, backbone: Backbone, max_length: int) -> Dataset:
        """Without rows of which nothing is left to learn."""
        made = list(self._tokens(rows.inputs, backbone, max_length))
        left = [(ids, labels) for ids, labels in made if _teaches(labels)]
        if not left:
            raise AutopeftError(
                f"nothing is left to learn of {len(made):,} rows: after {max_length:,} tokens (--max-length) no answer "
                "has begun; allow more, or shorten the prompts."
            )
        return Dataset(self._columns(left, backbone), max_length)

    def recalled(self, metric: Metric, train: Dataset, validation: Dataset, alone: Array) -> Array | None:
        # Which token is the likeliest after others, such a distribution does not tell.
        return None if metric not in (LOSS, PERPLEXITY) else recalled(train.targets, validation.targets, alone)

    def kept(self, rows: Rows, backbone: Backbone, max_length: int) -> np.ndarray:
        made = self._tokens(rows.inputs, backbone, max_length)
        return np.flatnonzero([_teaches(labels) for _, labels in made])

    def in_prompt(
        self, examples: Sequence[Example], inputs: Sequence[Example], read: Dataset, backbone: Backbone
    ) -> InPrompt:
        alone = [(read.columns[IDS][row], read.targets[row]) for row in range(len(read))]
        asked = asked_after(examples, inputs, alone, backbone.tokenizer, backbone.positions)
        longest = max((len(ids) for ids, _ in asked.tokens), default=read.longest)
        return InPrompt(asked.places, Dataset(self._columns(asked.tokens, backbone), longest), asked.more)

    def _tokens(
        self, inputs: Sequence[Any], backbone: Backbone, max_length: int
    ) -> Iterator[tuple[list[int], list[int]]]:
        tokenizer, filling = backbone.tokenizer, padding_of(backbone.tokenizer, backbone.vocabulary)
        require_end(tokenizer, backbone.name)
        for ids, found in tokens([rendered(each, tokenizer) for each in inputs], tokenizer):
            labels = _all(ids, found) if self.loss_on == ALL else found
            if len(ids) > max_length and all(each == NO_LABEL for each in labels):
                raise AutopeftError(
                    f"what was asked has {len(ids):,} tokens, and the model reads {max_length:,}: cut short at its end "
                    "it would be gone on with at another place; shorten it."
                )
            yield ids[:max_length] or [filling], labels[:max_length] or [NO_LABEL]

    def _columns(self, made: Sequence[tuple[list[int], list[int]]], backbone: Backbone) -> Mapping[str, Column]:
        filling = padding_of(backbone.tokenizer, backbone.vocabulary)
        ids = [np.asarray(each, dtype=np.int32) for each, _ in made]
        require_embeddings(backbone.tokenizer, ids, vocabulary_of(backbone))
        labels = Column.ragged([each for _, each in made], np.int32, NO_LABEL)
        return {IDS: Column.ragged(ids, np.int32, filling), LABELS: labels}

    def learned(self, split: Dataset) -> np.ndarray:
        return _learned(split.targets)

    def lost(self, rows: Rows, data: Dataset) -> str:
        cut = int(np.count_nonzero(data.lengths >= data.longest))
        dropped = len(rows) - len(data)
        said = [f"cut after {data.longest:,} tokens (--max-length): {cut:,}"] if cut else []
        if dropped:
            said.append(f"left out, because no answer begins within {data.longest:,} tokens: {dropped:,}")
        return f"of {len(rows):,} examples {'; '.join(said)}" if said else ""

    def shown(self, rows: Rows, data: Dataset, backbone: Backbone) -> Sequence[str]:
        tokenizer = backbone.tokenizer
        learned = data.targets.values != NO_LABEL
        said = [
            f"tokens: {len(learned):,} of training, {np.count_nonzero(learned) / len(learned):.0%} of them learned; "
            f"the longest example has {int(data.lengths.max()):,}"
        ]
        some = [rendered(each, tokenizer) for each in rows.inputs[:_SEEN] if isinstance(each, Example)]
        if self.form == CONVERSATION and not tokenizer.chat_template:
            said.append("the model has no chat template; conversations are written by a plain one, as shown")
        untold = sum(each.untold > 0 for each in some)
        if untold and self.loss_on != ALL:
            said.append(
                f"only the last answer is learned of {untold} of {len(some)} examples looked at: the chat template "
                "writes earlier ones otherwise once turns follow"
            )
        if joined := sum(map(_runs_together, some)):
            said.append(
                f"{joined} of {len(some)} prompts looked at run into their completions without a blank between; end "
                "prompts with one, or with a line break, if that is not meant"
            )
        return *said, *(
            f"example {row + 1}, «learned»: {_written(data, row, backbone)}" for row in range(min(_SHOWN, len(data)))
        )

    def key(self, backbone: Backbone, max_length: int) -> str:
        tokenizer = backbone.tokenizer
        said = f"{template_of(tokenizer)} {key_of(tokenizer, max_length, backbone.vocabulary)}"
        return hashlib.sha256(said.encode()).hexdigest()

    def equip(self, processor: Any) -> None:
        if self.form == CONVERSATION:
            processor.chat_template = template_of(processor)

    def shapes(self, length: int) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        return dict.fromkeys((IDS, MASK, LABELS), (torch.long, (length,)))

    def new_head(self, width: int, training: Training) -> LanguageModelHead:  # noqa: ARG002
        return LanguageModelHead()

    def samples(self, backbone: Backbone) -> Sequence[Example]:
        return [conversations.asked(text, PLAIN) for text in sample_texts(backbone.tokenizer)]

    def asked(self, given: Any) -> tuple[Sequence[Example], bool]:
        """One is a text, a list of messages, or a mapping as a row has it; a list of such is many."""
        many = given.tolist() if hasattr(given, "tolist") else given
        if isinstance(many, Iterator):
            many = list(many)
        is_one = not isinstance(many, list | tuple) or (bool(many) and all(map(_is_turn, many)))
        return [conversations.asked(each, self.form) for each in ([many] if is_one else many)], is_one

    def prompts(self, inputs: Sequence[Any], backbone: Backbone) -> Sequence[Sequence[int]]:
        tokenizer = backbone.tokenizer
        found = [
            ids[: asking(ids, to)] for ids, to in tokens([rendered(each, tokenizer) for each in inputs], tokenizer)
        ]
        if not all(found):
            raise AutopeftError("there is nothing to go on with before an answer; give its beginning as a text.")
        return found

    def parted(self, ids: np.ndarray, labels: np.ndarray) -> tuple[list[int], list[int]]:
        at = asking(ids.tolist(), labels.tolist())
        return ids[:at].tolist(), ids[at:][labels[at:] != NO_LABEL].tolist()

    def ends(self, backbone: Backbone) -> frozenset[int]:
        return ends(backbone.tokenizer, self.in_turns)


def _learned(targets: Column) -> np.ndarray:
    """(rows,) how many tokens of each are learned; of the first nothing tells."""
    assert targets.offsets is not None
    begins = targets.offsets[:-1]
    told = (targets.values != NO_LABEL).astype(np.int64)
    told[begins] = 0
    return np.add.reduceat(told, begins)


def _teaches(labels: Sequence[int]) -> bool:
    """Whether something is learned of a row; of the first token nothing tells."""
    return any(each != NO_LABEL for each in labels[1:])


def _is_turn(given: Any) -> bool:
    return isinstance(given, Mapping) and bool({"role", "from"} & given.keys())


def _all(ids: Sequence[int], labels: Sequence[int]) -> list[int]:
    """Labels of all tokens up to the last that is learned anyhow."""
    over = max((at + 1 for at, label in enumerate(labels) if label != NO_LABEL), default=0)
    return [*ids[:over], *labels[over:]]


def _runs_together(row: Rendered) -> bool:
    """Whether a prompt and its completion meet without anything between them."""
    if not row.follows or len(row.pieces) < 2:
        return False
    return not (row.pieces[0].text[-1:].isspace() or row.pieces[1].text[:1].isspace())


def _written(data: Dataset, row: int, backbone: Backbone) -> str:
    """A row as the model reads it, on one line, with what is learned in «»."""
    ids, labels = data.columns[IDS][row], data.targets[row]
    edges = np.flatnonzero(np.diff(labels != NO_LABEL)) + 1
    parts = []
    for some, goals in zip(np.split(ids, edges), np.split(labels, edges), strict=True):
        text = str(backbone.tokenizer.decode(some.tolist())).replace("\n", "↵")
        parts.append(f"«{text}»" if goals[0] != NO_LABEL else text)
    whole = "".join(parts).strip()
    return whole if len(whole) <= 2 * _LONGEST else f"{whole[:_LONGEST]} … {whole[-_LONGEST:]}"
