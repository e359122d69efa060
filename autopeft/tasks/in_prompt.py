"""Examples in a prompt (in-context learning; Brown et al., NeurIPS 2020): other rows and their answers before a row.

Of a conversation they are earlier turns, after its own system's; their systems are left out, because a conversation has
one. A prompt that is gone on with has them before it as texts, one below the other, each with its end token. What is
judged is what is judged of the row alone, token for token; a row of which that cannot be had is not asked.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from autopeft.data.conversations import ASSISTANT, SYSTEM, Example
from autopeft.errors import AutopeftError
from autopeft.tasks.heads import NO_LABEL
from autopeft.tasks.rendering import rendered, tokens

Tokens = tuple[list[int], list[int]]
"""Of a row, and its labels."""


@dataclass(frozen=True)
class Asked:
    """Rows with examples before them."""

    places: np.ndarray
    """Which of the rows that were to be asked could be."""
    tokens: Sequence[Tokens]
    """Of these rows."""
    more: float
    """Tokens that the examples add to one of them, on average."""


def asked_after(
    examples: Sequence[Example],
    rows: Sequence[Example],
    read: Sequence[tuple[np.ndarray, np.ndarray]],
    tokenizer: PreTrainedTokenizerBase,
    positions: int | None,
) -> Asked:
    """Rows that were `read` as tokens and labels, with examples before them, where there are positions for both."""
    places, found, more = [], [], []
    for place, (row, (ids, labels)) in enumerate(zip(rows, read, strict=True)):
        if (made := _asked(row, examples, labels, tokenizer)) is None:
            continue
        if positions is None or len(made[0]) <= positions:
            places.append(place)
            found.append(made)
            more.append(len(made[0]) - len(_upto(ids, labels)))
    return Asked(np.array(places, dtype=np.int64), found, float(np.mean(more)) if more else 0.0)


def preceded(row: Example, examples: Sequence[Example], end: str) -> Example:
    """The row with examples before it; `end` is the text of the end token."""
    whole = {**row.read}
    if "prompt" in whole:
        before = [
            f"{each['prompt']}{each['completion'].removesuffix(end)}{end}\n\n"
            for each in (some.read for some in examples)
        ]
        whole["prompt"] = "".join((*before, whole["prompt"]))
    else:
        turns = whole["messages"]
        own = 1 if turns[0]["role"] == SYSTEM else 0
        earlier = [turn for some in examples for turn in _turns(some)]
        whole["messages"] = [*turns[:own], *earlier, *turns[own:]]
        whole["from"] = max(whole.get("from", 0), own) + len(earlier)
    return Example(json.dumps(whole, ensure_ascii=False), row.what)


def _turns(example: Example) -> Iterator[dict[str, str]]:
    """Up to its last answer."""
    turns = example.read["messages"]
    last = max(number for number, turn in enumerate(turns) if turn["role"] == ASSISTANT)
    yield from (turn for turn in turns[: last + 1] if turn["role"] != SYSTEM)


def _asked(
    row: Example, examples: Sequence[Example], labels: np.ndarray, tokenizer: PreTrainedTokenizerBase
) -> Tokens | None:
    """As the model reads it, up to the last token that is judged; None where others would be judged than of the row
    alone.
    """
    with suppress(AutopeftError):
        whole = preceded(row, examples, str(tokenizer.eos_token)) if examples else row
        ((ids, made),) = tokens([rendered(whole, tokenizer)], tokenizer)
        wanted, places = _learned(labels), np.flatnonzero(np.array([NO_LABEL, *made[1:]]) != NO_LABEL)
        if len(places) >= len(wanted) > 0:
            end = int(places[len(wanted) - 1]) + 1
            if np.array_equal(_learned(np.array(made[:end])), wanted):
                return ids[:end], made[:end]
    return None


def _learned(labels: np.ndarray) -> np.ndarray:
    """The tokens that are judged: nothing comes before the first of all."""
    learned: np.ndarray = labels[1:][labels[1:] != NO_LABEL]
    return learned


def _upto(ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The tokens up to the last that is judged."""
    upto: np.ndarray = ids[: int(np.flatnonzero(labels != NO_LABEL)[-1]) + 1]
    return upto
