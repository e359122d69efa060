"""Tokenized data: made once, cached by content, memory-mapped by every worker.

A split is two flat arrays (token ids and token types of all examples end to end) with the offset of each example, so
that a batch is a few copies. Workers need neither the texts nor the tokenizer.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from autopeft.tasks.data import TaskData

MULTIPLE = 8
"""Batches are padded to a multiple of this many tokens."""
_CHUNK = 1000
_TOKENS = ("ids", "types")


@dataclass(frozen=True)
class Padding:
    """How a tokenizer fills up shorter texts."""

    token: int
    side: str
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
        lengths = self.offsets[np.asarray(indices) + 1] - self.offsets[np.asarray(indices)]
        width = min(-(-int(lengths.max()) // MULTIPLE) * MULTIPLE, max(self.padding.longest, int(lengths.max())))
        ids = np.full((len(lengths), width), self.padding.token, dtype=np.int64)
        mask = np.zeros((len(lengths), width), dtype=np.int64)
        types = np.zeros((len(lengths), width), dtype=np.int64) if self.types is not None else None
        for row, (index, length) in enumerate(zip(indices, lengths, strict=True)):
            place = slice(0, length) if self.padding.side == "right" else slice(width - length, width)
            start = self.offsets[index]
            ids[row, place] = self.ids[start : start + length]
            mask[row, place] = 1
            if types is not None and self.types is not None:
                types[row, place] = self.types[start : start + length]
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        return inputs if types is None else {**inputs, "token_type_ids": torch.from_numpy(types)}


def tokenize(data: TaskData, tokenizer: PreTrainedTokenizerBase, max_length: int, folder: Path) -> Path:
    """The folder of the tokenized data inside `folder`; made once for equal content, it appears whole or not at all."""
    target = folder / f"tokens-{_key(data, tokenizer, max_length)}"
    if target.exists():
        return target
    temporary = folder / f"{target.name}.{uuid.uuid4().hex}"
    try:
        for name, split in data.splits.items():
            _write_split(temporary / name, split.texts, split.labels, tokenizer, max_length)
        padding = {"token": tokenizer.pad_token_id, "side": tokenizer.padding_side, "longest": max_length}
        (temporary / "padding.json").write_text(json.dumps(padding), encoding="utf-8")
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
    padding = Padding(**json.loads((folder / "padding.json").read_text(encoding="utf-8")))
    tokens = {file.stem: np.load(file, mmap_mode="r") for file in (folder / name).glob("*.npy") if file.stem in _TOKENS}
    offsets, labels = (np.load(folder / name / f"{each}.npy") for each in ("offsets", "labels"))
    return Tokenized(tokens["ids"], tokens.get("types"), offsets, labels, padding)


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str] | Sequence[tuple[str, ...]], max_length: int
) -> dict[str, Tensor]:
    """A padded batch of texts (or pairs), encoded as in training."""
    rows = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
    padded = tokenizer.pad(_encoded(tokenizer, rows, max_length), return_tensors="pt")
    return {name: padded[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in padded}


def _encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, ...]], max_length: int) -> Any:
    """Pairs are encoded as the tokenizer does it, or joined by a newline where it puts nothing between the texts.

    A text of no tokens becomes a padding token, because a model needs something to look at.
    """
    first = [text[0] for text in texts]
    second = [text[1] for text in texts] if len(texts[0]) == 2 else None
    if second is not None and not _separates_pairs(tokenizer):
        first, second = [f"{one}\n{other}" for one, other in zip(first, second, strict=True)], None
    encoded = tokenizer(first, second, truncation=True, max_length=max_length)
    for name, filling in (("input_ids", tokenizer.pad_token_id), ("attention_mask", 1), ("token_type_ids", 0)):
        if name in encoded:
            encoded[name] = [row or [filling] for row in encoded[name]]
    return encoded


def _separates_pairs(tokenizer: PreTrainedTokenizerBase) -> bool:
    pair = tokenizer("a", "b")["input_ids"]
    joined = [token for text in ("a", "b") for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    return not any(pair[start : start + len(joined)] == joined for start in range(len(pair)))


def _write_split(
    folder: Path,
    texts: Sequence[tuple[str, ...]],
    labels: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> None:
    folder.mkdir(parents=True)
    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    for start in range(0, len(texts), _CHUNK):
        encoded = _encoded(tokenizer, texts[start : start + _CHUNK], max_length)
        ids += [np.asarray(row, dtype=np.int32) for row in encoded["input_ids"]]
        types += [np.asarray(row, dtype=np.int8) for row in encoded.get("token_type_ids", ())]
    np.save(folder / "ids.npy", np.concatenate(ids))
    if types:
        np.save(folder / "types.npy", np.concatenate(types))
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum([len(row) for row in ids])]))
    np.save(folder / "labels.npy", labels)


def _key(data: TaskData, tokenizer: PreTrainedTokenizerBase, max_length: int) -> str:
    digest = hashlib.sha256(
        f"{data.fingerprint} {max_length} {tokenizer.padding_side} {tokenizer.pad_token_id}".encode()
    )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    # Truncation and padding are what the tokenizer was last called with, no part of what it is.
    whole = json.loads(backend.to_str()) | {"truncation": None, "padding": None} if backend is not None else None
    digest.update((json.dumps(whole) if whole is not None else tokenizer.name_or_path).encode())
    if "test" in data.splits:
        digest.update(repr(data.splits["test"].texts).encode() + data.splits["test"].labels.tobytes())
    return digest.hexdigest()[:24]
