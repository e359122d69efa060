"""Token classification: a tag for each word of a text, such as the entities that it names, or its parts of speech.

Rows are words with their tags, or texts with marked spans. The first piece of a word has its tag, the others have none.
Words whose tag is -100 have none either, as elsewhere: nothing is learned of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from transformers import PreTrainedTokenizerBase

from autopeft.backbone.load import Backbone
from autopeft.data.columns import SPANS, TAGS, TEXTS, TOKENS, WORDS, Columns, Role, guess_columns
from autopeft.data.rows import Rows, require_columns, short
from autopeft.data.spans import words
from autopeft.data.store import LABELS, MASK, Column, Dataset
from autopeft.errors import AutopeftError
from autopeft.space.candidate import Training
from autopeft.tasks.base import Task
from autopeft.tasks.classes import FEW, in_order, shares
from autopeft.tasks.heads import NO_LABEL, Batch, Head, TokenHead
from autopeft.tasks.linear_probe import fit_classes
from autopeft.tasks.metrics import ENTITY_F1, ENTITY_PRECISION, ENTITY_RECALL, TOKEN_ACCURACY, Metric
from autopeft.tasks.sentences import Asked, asked_of, readable, sentences, words_of
from autopeft.tasks.tags import OUTSIDE, entities, have_entities, scheme
from autopeft.tasks.texts import IDS, TYPES, key_of, padding_of, require_embeddings, sample_texts

_CHUNK = 1000
"""Texts that are encoded at a time."""
_SEEN = 1000
"""Rows by which data for this task is known."""
_UNTAGGED = str(NO_LABEL)
"""How data says that a word has no tag."""


@dataclass(frozen=True)
class TokenClassification(Task):
    """A tag for each word."""

    classes: tuple[str, ...]
    """The tags in the order of the outputs; the first is answered of words that the model does not get to read."""

    name: ClassVar = "token-classification"
    aliases: ClassVar = ("TOKEN_CLS", "ner")
    target: ClassVar = "row of tags"
    roles: ClassVar = {"tags": Role(WORDS, (*TAGS, *SPANS)), "tokens": Role(WORDS, (*TOKENS, *TEXTS))}
    metrics: ClassVar = (ENTITY_F1, ENTITY_PRECISION, ENTITY_RECALL, TOKEN_ACCURACY)
    constant: ClassVar = "most frequent tag"
    settings: ClassVar = dict.fromkeys(("head_start", "head_learning_rate"))
    pipeline: ClassVar = name
    auto_class: ClassVar = "AutoModelForTokenClassification"

    @classmethod
    def fits(cls, frame: pd.DataFrame, given: Columns) -> bool:
        if given:
            return bool(given.keys() & cls.roles.keys())
        try:
            columns = guess_columns(frame, cls.roles, given)
        except AutopeftError:
            return False
        some = frame.head(_SEEN)
        read = zip(some[columns["tokens"][0]], readable(some, *_served(columns)), strict=True)
        # A text beside an empty list may be anything.
        return any(each is not None and (not isinstance(cell, str) or {*each.tags} != {OUTSIDE}) for cell, each in read)

    @classmethod
    def sized(cls, labels: int) -> Self:
        return cls((OUTSIDE, *(f"B-{number}" for number in range(1, labels))))

    @classmethod
    def understand(cls, frame: pd.DataFrame, columns: Columns) -> tuple[Self, Sequence[str]]:
        found = sentences(frame, *_served(columns), "train")
        counts = Counter(tag for each in found for tag in each.tags)
        untagged = counts.pop(_UNTAGGED, 0)
        (column,) = columns["tags"]
        if len(counts) < 2:
            only = short(min(counts, default=_UNTAGGED))
            raise AutopeftError(f"column '{column}' holds one tag only, '{only}'; nothing is to learn.")
        if len(counts) > max(FEW, counts.total() / 2):
            raise AutopeftError(
                f"column '{column}' holds {len(counts):,} different values for {counts.total():,} words, too many to "
                "be tags; give another column as --columns tags=NAME."
            )
        usual = OUTSIDE if OUTSIDE in counts else counts.most_common(1)[0][0]
        task = cls((usual, *in_order([tag for tag in counts if tag != usual])))
        notes = [f"tags: {scheme([[tag for tag in each.tags if tag != _UNTAGGED] for each in found])}"]
        if untagged:
            notes.append(f"words whose tag is {_UNTAGGED}, of which nothing is learned: {untagged:,}")
        if widened := sum(each.widened for each in found):
            notes.append(f"spans that end inside a word, and were given the whole of it: {widened:,}")
        if lost := sum(each.lost for each in found):
            notes.append(f"spans without a word of their own, left out: {lost:,}")
        return task, notes

    def rows(self, frame: pd.DataFrame, columns: Columns, split: str) -> Rows:
        require_columns(frame, columns, split)
        found = sentences(frame, *_served(columns), split)
        indices = {_UNTAGGED: NO_LABEL, **{tag: index for index, tag in enumerate(self.classes)}}
        for row, each in enumerate(found, 1):
            if more := {*each.tags} - {*indices}:
                raise AutopeftError(
                    f"row {row} of the {split} split has the tag '{short(min(more))}', which no training row has."
                )
        targets = [[indices[tag] for tag in each.tags] for each in found]
        return Rows(tuple(each.words for each in found), Column.ragged(targets, np.int32, NO_LABEL))

    def complete(self, frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
        found = readable(frame, *_served(columns))
        return frame[[each is not None and {*each.tags} <= {_UNTAGGED, *self.classes} for each in found]]

    def described(self, train: Rows) -> Sequence[str]:
        values = train.targets.values
        tags = shares(np.bincount(values[values != NO_LABEL], minlength=len(self.classes)), self.classes)
        if not self.marks_entities:
            return (tags,)
        rows = (train.targets[row] for row in range(len(train)))
        named = [[self.classes[index] for index in row[row != NO_LABEL]] for row in rows]
        counts = Counter(kind for tags_of_row in named for kind, _, _ in entities(tags_of_row))
        kinds = in_order([*counts])
        return (tags, f"{counts.total():,} entities of {shares(np.array([counts[kind] for kind in kinds]), kinds)}")

    @property
    def marks_entities(self) -> bool:
        """Whether its tags mark entities; else each word has a class of its own."""
        return have_entities(self.classes)

    @property
    def default_metric(self) -> Metric:
        return ENTITY_F1 if self.marks_entities else TOKEN_ACCURACY

    def encoded(self, inputs: Sequence[Any], backbone: Backbone, max_length: int) -> Mapping[str, Column]:
        """As labels the number of the word on its first piece, which `encode` and `parts` know it by."""
        tokenizer, filling = backbone.tokenizer, padding_of(backbone.tokenizer, backbone.vocabulary)
        if not tokenizer.is_fast:
            raise AutopeftError(
                f"the tokenizer of '{backbone.name}' does not tell which pieces are of which word; "
                f"{self.name} needs a fast one, which lies in a file tokenizer.json."
            )
        blank = blank_of(tokenizer)
        ids: list[Any] = []
        types: list[Any] = []
        labels: list[Any] = []
        for start in range(0, len(inputs), _CHUNK):
            chunk = [[blank + word for word in words_of(each)] or [""] for each in inputs[start : start + _CHUNK]]
            read = tokenizer(chunk, is_split_into_words=True, truncation=True, max_length=max_length)
            for row, row_ids in enumerate(read["input_ids"]):
                ids.append(row_ids or [filling])
                of_words = pairwise([None, *(read.word_ids(row) or [None])])
                labels.append([NO_LABEL if word in (None, before) else word for before, word in of_words])
            types += [row or [0] for row in read.get("token_type_ids", ())]
        require_embeddings(tokenizer, ids, backbone.vocabulary)
        columns = {IDS: Column.ragged(ids, np.int32, filling), LABELS: Column.ragged(labels, np.int32, NO_LABEL)}
        return {**columns, TYPES: Column.ragged(types, np.int8)} if types else columns

    def encode(self, rows: Rows, backbone: Backbone, max_length: int) -> Dataset:
        columns = self.encoded(rows.inputs, backbone, max_length)
        places, targets = columns[LABELS], rows.targets
        assert targets.offsets is not None
        first = places.values != NO_LABEL
        of_row = np.repeat(targets.offsets[:-1], places.lengths)
        labels = np.where(first, targets.values[np.where(first, of_row + places.values, 0)], NO_LABEL)
        return Dataset({**columns, LABELS: Column(labels, places.offsets, NO_LABEL)}, max_length)

    def lost(self, rows: Rows, data: Dataset) -> str:
        whole, read = (int(np.count_nonzero(each.values != NO_LABEL)) for each in (rows.targets, data.targets))
        how = f"they lie beyond {data.longest} tokens (--max-length), or the tokenizer makes nothing of them"
        return f"{whole - read:,} of {whole:,} words are not read: {how}" if read < whole else ""

    def key(self, backbone: Backbone, max_length: int) -> str:
        return key_of(backbone.tokenizer, max_length, backbone.vocabulary)

    def shapes(self, length: int) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        return dict.fromkeys((IDS, MASK, LABELS), (torch.long, (length,)))

    def new_head(self, width: int, training: Training) -> TokenHead:  # noqa: ARG002
        return TokenHead(width, self.classes)

    def best_constant(self, train: Dataset) -> Tensor:
        labels = train.targets.values
        most = np.bincount(labels[labels != NO_LABEL], minlength=len(self.classes)).argmax()
        return one_hot(torch.tensor(most), len(self.classes)).float()

    def fit(self, head: Head, features: np.ndarray, targets: np.ndarray) -> None:
        assert isinstance(head, TokenHead)
        fit_classes(head, features, targets)

    def samples(self, backbone: Backbone) -> Sequence[str]:
        return sample_texts(backbone.tokenizer)

    def asked(self, given: Any) -> tuple[Sequence[Any], bool]:
        return asked_of(given)

    def parts(self, output: Tensor, batch: Batch, inputs: Sequence[Any]) -> list[Tensor]:
        """(words, tags) of each; zeros of a word that the model did not get to read."""
        found = []
        for of_row, places, each in zip(output, batch[LABELS][:, : output.shape[1]], inputs, strict=True):
            part = output.new_zeros(len(words_of(each)), len(self.classes))
            part[places[places != NO_LABEL]] = of_row[places != NO_LABEL]
            found.append(part)
        return found

    def answers(self, output: Any, inputs: Sequence[Any]) -> Sequence[Any]:
        """The entities of each text in their order, each with its type (`entity`), words, first and last word, score
        (the mean probability of its tags) and, where a text was given, first character (`start`) and the one after
        the last (`end`). Where tags mark no entities, the tag of each word.
        """
        return [self._answer(self.probabilities(part), each) for part, each in zip(output, inputs, strict=True)]

    def _answer(self, probabilities: Tensor, asked: Asked) -> Any:
        scores, best = probabilities.max(-1)
        tags = [self.classes[index] for index in best.tolist()]
        if not self.marks_entities:
            return tags
        said, offsets = words_of(asked), words(asked) if isinstance(asked, str) else None
        return [
            {
                "entity": kind,
                "words": list(said[first : last + 1]),
                "first": first,
                "last": last,
                "score": float(scores[first : last + 1].mean()),
                **({"start": offsets[first][0], "end": offsets[last][1]} if offsets else {}),
            }
            for kind, first, last in entities(tags)
        ]

    def compared(self, output: Tensor, batch: Batch) -> tuple[Sequence[list[str]], Sequence[list[str]]]:
        """Lists of tags, of the words that the model gets to read."""
        labels, best = batch[LABELS][:, : output.shape[1]].cpu(), output.argmax(-1).cpu()
        seen = [row != NO_LABEL for row in labels]
        expected, predicted = (
            [[self.classes[tag] for tag in row[mask].tolist()] for row, mask in zip(tags, seen, strict=True)]
            for tags in (labels, best)
        )
        return expected, predicted

    def scores(self, output: Any) -> Sequence[list[dict[str, float]]]:
        """For each word the probability of every tag."""
        return [
            [dict(zip(self.classes, word, strict=True)) for word in self.probabilities(part).tolist()]
            for part in output
        ]

    def probabilities(self, output: Tensor) -> Tensor:
        return output.softmax(-1)


def _served(columns: Columns) -> tuple[str, str]:
    """The columns of words and tags."""
    return columns["tokens"][0], columns["tags"][0]


def blank_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """What to put before words that are given one by one: a blank for tokenizers that take a word after a blank for
    another one, as those of GPT-2 and RoBERTa do (transformers' `add_prefix_space`).
    """
    text = tokenizer("a a", add_special_tokens=False)["input_ids"]
    alone = tokenizer(["a", "a"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    return "" if text[-1:] == alone[-1:] else " "
