"""Tokenized data: made once, cached by content, memory-mapped by every worker.

A split is two flat arrays (token ids and token types of all examples end to end) with the offset of each example, so
that a batch is a few copies. Workers need neither the texts nor the tokenizer.

Batches are padded on the right, whatever the tokenizer prefers: where positions are counted from the first token on, a
text after padding would be another text.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from autopeft.data.rows import Split, TaskData
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

MULTIPLE = 8
"""Batches are padded to a multiple of this many tokens."""
_CHUNK = 1000
_TOKENS = ("ids", "types")


@dataclass(frozen=True)
class Padding:
    """How a tokenizer fills up shorter texts."""

    token: int
    longest: int
    """No batch is padded beyond this many tokens."""


@dataclass(frozen=True)
class Tokenized:
    """One split."""

    ids: np.ndarray
    """(tokens of all examples,), memory-mapped."""
    types: np.ndarray | None
    """Token types, like `ids`, memory-mapped; None where the tokenizer makes none."""
    offsets: np.ndarray
    """(examples + 1,): example i is ids[offsets[i]:offsets[i + 1]]."""
    labels: np.ndarray
    """(examples,) integer classes."""
    padding: Padding

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """(examples,) lengths in tokens."""
        return np.diff(self.offsets)

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """(batch, longest) token ids, mask and, where there are, types, padded to a multiple of 8."""
        places = [slice(self.offsets[index], self.offsets[index + 1]) for index in indices]
        types = None if self.types is None else [self.types[place] for place in places]
        return _padded([self.ids[place] for place in places], types, self.padding)


def tokenize(
    data: TaskData,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    folder: Path,
    vocabulary: int | None = None,
) -> Path:
    """The folder of the tokenized data inside `folder`; made once for equal content, it appears whole or not at all.

    `vocabulary` is how many tokens the model has embeddings for. Raises AutopeftError for a token that it has none for.
    """
    padding = _padding(tokenizer, max_length, vocabulary)
    target = folder / f"tokens-{_key(data, tokenizer, padding, vocabulary)}"
    if target.exists():
        return target
    temporary = folder / f"{target.name}.{uuid.uuid4().hex}"
    try:
        for name, split in data.splits.items():
            _write_split(temporary / name, split, tokenizer, padding, vocabulary)
        (temporary / "padding.json").write_text(json.dumps(asdict(padding)), encoding="utf-8")
        temporary.rename(target)
    except OSError:
        # Somebody else made it meanwhile.
        if not target.exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def open_split(folder: Path, name: str) -> Tokenized:
    """A split that `tokenize` wrote; its tokens are memory-mapped."""
    plain = json.loads((folder / "padding.json").read_text(encoding="utf-8"))
    padding = Padding(plain["token"], plain["longest"])
    tokens = {file.stem: np.load(file, mmap_mode="r") for file in (folder / name).glob("*.npy") if file.stem in _TOKENS}
    offsets, labels = (np.load(folder / name / f"{each}.npy") for each in ("offsets", "labels"))
    return Tokenized(tokens["ids"], tokens.get("types"), offsets, labels, padding)


def encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str] | Sequence[tuple[str, ...]],
    max_length: int,
    vocabulary: int | None = None,
) -> dict[str, Tensor]:
    """A padded batch of texts (or pairs), encoded as in training. Raises AutopeftError as `tokenize` does."""
    padding = _padding(tokenizer, max_length, vocabulary)
    rows = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
    encoded = _encoded(tokenizer, rows, padding, vocabulary)
    return _padded(encoded["input_ids"], encoded.get("token_type_ids"), padding)


def _padding(tokenizer: PreTrainedTokenizerBase, max_length: int, vocabulary: int | None) -> Padding:
    """With any token where the tokenizer's own is none of the model's: nothing sees it."""
    token = tokenizer.pad_token_id
    return Padding(token if token is not None and (vocabulary is None or token < vocabulary) else 0, max_length)


def _padded(ids: Sequence[Any], types: Sequence[Any] | None, padding: Padding) -> dict[str, Tensor]:
    """(rows, longest) of rows of token ids and types, on the right."""
    lengths = np.array([len(row) for row in ids])
    width = min(-(-int(lengths.max()) // MULTIPLE) * MULTIPLE, max(padding.longest, int(lengths.max())))

    def filled(rows: Sequence[Any], filling: int) -> Tensor:
        whole = np.full((len(rows), width), filling, dtype=np.int64)
        for each, row in zip(whole, rows, strict=True):
            each[: len(row)] = row
        return torch.from_numpy(whole)

    mask = torch.from_numpy((np.arange(width) < lengths[:, None]).astype(np.int64))
    inputs = {"input_ids": filled(ids, padding.token), "attention_mask": mask}
    return inputs if types is None else {**inputs, "token_type_ids": filled(types, 0)}


def _encoded(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, ...]], padding: Padding, vocabulary: int | None
) -> Any:
    """Pairs are encoded as the tokenizer does it, or joined by a newline where it puts nothing between the texts.

    A text of no tokens becomes a padding token, because a model needs something to look at.
    """
    first = [text[0] for text in texts]
    second = [text[1] for text in texts] if len(texts[0]) == 2 else None
    if second is not None and not _separates_pairs(tokenizer):
        first, second = [f"{one}\n{other}" for one, other in zip(first, second, strict=True)], None
    encoded = tokenizer(first, second, truncation=True, max_length=padding.longest)
    for name, filling in (("input_ids", padding.token), ("token_type_ids", 0)):
        if name in encoded:
            encoded[name] = [row or [filling] for row in encoded[name]]
    highest = max(map(max, encoded["input_ids"]))
    if vocabulary is not None and highest >= vocabulary:
        token = brief(tokenizer.convert_ids_to_tokens(highest))
        raise AutopeftError(
            f"the tokenizer makes the token {token} of these texts, its number {highest:,}, but the model has "
            f"embeddings for {vocabulary:,} tokens: the tokenizer is another model's, or the model was not resized "
            "when tokens were added (`model.resize_token_embeddings`)."
        )
    return encoded


def _separates_pairs(tokenizer: PreTrainedTokenizerBase) -> bool:
    pair = tokenizer("a", "b")["input_ids"]
    joined = [token for text in ("a", "b") for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    return not any(pair[start : start + len(joined)] == joined for start in range(len(pair)))


def _write_split(
    folder: Path, split: Split, tokenizer: PreTrainedTokenizerBase, padding: Padding, vocabulary: int | None
) -> None:
    folder.mkdir(parents=True)
    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    for start in range(0, len(split), _CHUNK):
        encoded = _encoded(tokenizer, split.texts[start : start + _CHUNK], padding, vocabulary)
        ids += [np.asarray(row, dtype=np.int32) for row in encoded["input_ids"]]
        types += [np.asarray(row, dtype=np.int8) for row in encoded.get("token_type_ids", ())]
    np.save(folder / "ids.npy", np.concatenate(ids))
    if types:
        np.save(folder / "types.npy", np.concatenate(types))
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum([len(row) for row in ids])]))
    np.save(folder / "labels.npy", split.labels)


def _key(data: TaskData, tokenizer: PreTrainedTokenizerBase, padding: Padding, vocabulary: int | None) -> str:
    digest = hashlib.sha256(f"{data.fingerprint} {padding} {tokenizer.truncation_side} {vocabulary}".encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    # Truncation and padding are what the tokenizer was last called with, no part of what it is.
    whole = json.loads(backend.to_str()) | {"truncation": None, "padding": None} if backend is not None else None
    digest.update((json.dumps(whole) if whole is not None else tokenizer.name_or_path).encode())
    digest.update(data.test_fingerprint.encode())
    return digest.hexdigest()[:24]
