"""How those who do not know autopeft must give inputs, so that an exported model answers as it does; it is tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autopeft.artifacts.trained import TrainedModel
from autopeft.artifacts.whole import answers_of, apart
from autopeft.tasks.sentences import words_of
from autopeft.tasks.texts import IDS, separates_pairs
from autopeft.tasks.token_classification import blank_of
from autopeft.training.precision import FLOAT32

_PLAIN = ("a good film", "Mr. O'Neil's co-worker went to New York (5% of them), didn't he?")
"""Texts by which two ways of reading are told apart, beside samples and a long one."""
_ALIKE = 1e-4
"""By how much answers that are the outputs themselves may differ from them, as a fraction of the largest, or of 1."""


@dataclass(frozen=True)
class Reading:
    """What the lines of a card depend on, apart from its task."""

    alike: bool = True
    """Whether the tokenizer makes of a plain text, cut at its length, what autopeft makes; of words, whether
    transformers' pipeline tells them apart as autopeft does.
    """
    joined: bool = False
    """Whether a pair is one text, joined by a line break."""
    blank: str = ""
    """What stands before each word."""
    numbers: bool = True
    """Whether outputs without names are the answers."""


def reading(trained: TrainedModel, processor: Any) -> Reading:
    """Of a trained model whose processor is given away as it is here."""
    task = trained.task
    numbers = bool(task.output_names) or task.causal or _are_numbers(trained)
    if trained.task.reads != IDS:
        return Reading(numbers=numbers)
    of_words, pair = trained.task.pipeline == "token-classification", trained.task.asks[0].startswith("(")
    joined = pair and not separates_pairs(processor)
    return Reading(
        alike=_alike(trained, processor, of_words, pair, joined),
        joined=joined,
        blank=blank_of(processor) if of_words else "",
        numbers=numbers,
    )


def _alike(trained: TrainedModel, tokenizer: Any, of_words: bool, pair: bool, joined: bool) -> bool:
    """Of texts with punctuation, and of one that is longer than the model reads."""
    if of_words and not getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None):
        return False  # The pipeline guesses by blanks which pieces are of one word.
    try:
        for text in (*_PLAIN, " ".join(_PLAIN * trained.longest)):
            if of_words:
                found = tokenizer(text, truncation=True)
                split = tokenizer(words_of(text), is_split_into_words=True, truncation=True)
                if found.word_ids() != split.word_ids():
                    return False
            elif joined:
                found = tokenizer(f"{text}\n{text}", truncation=True)
            else:
                found = tokenizer(text, text if pair else None, truncation=True)
            inputs, _ = trained.task.asked([(text, text) if pair else text])
            read = trained.task.encoded(inputs, trained.backbone, trained.longest)[IDS][0]
            if list(read) != found[IDS]:
                return False
    except Exception:  # A task of one's own may be asked in another way.
        return False
    return True


def _are_numbers(trained: TrainedModel) -> bool:
    task = trained.task
    samples: Sequence[Any] = task.samples(trained.backbone)
    ((output, batch, inputs),) = trained.outputs(samples, len(samples), FLOAT32)
    try:
        told = np.asarray(task.answers(task.parts(output, batch, inputs), inputs), dtype=np.float64).ravel()
    except (TypeError, ValueError):
        return False
    return apart(torch.from_numpy(told), answers_of(task, output).double().ravel(), _ALIKE) is None
