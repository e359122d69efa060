import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from autopeft.data.store import Column, Dataset
from autopeft.errors import AutopeftError
from autopeft.tasks import texts as module
from autopeft.tasks.texts import encode, key_of

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "\n", *"abcdefghij")
LETTERS = "a b c d e f g h i j"


def tokenizer(side: str = "right", separates: bool = True, words: tuple[str, ...] = WORDS) -> PreTrainedTokenizerBase:
    """A word for each letter; with BERT's special tokens and types, or without any of them."""
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    if separates:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    else:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated")]
        )
    names = ["input_ids", *(["token_type_ids"] if separates else []), "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", padding_side=side, model_input_names=names
    )


def split(
    texts: list[tuple[str, ...]],
    tokens: PreTrainedTokenizerBase | None = None,
    longest: int = 64,
    vocabulary: int | None = None,
) -> Dataset:
    labels = Column(np.arange(len(texts), dtype=np.int64) % 2)
    return Dataset({**encode(tokens or tokenizer(), texts, longest, vocabulary), "labels": labels}, longest)


SINGLE = [(LETTERS[: 2 * length - 1],) for length in (3, 1, 10, 7, 5)]
PAIRS = [("a b c", "d"), ("e", "f g h i j"), ("a a a a a a a", "b b b b b b b"), ("a", "")]


@pytest.mark.parametrize("texts", [SINGLE, PAIRS], ids=["single", "pairs"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("max_length", [8, 12, 64])
def test_a_batch_is_what_the_tokenizer_would_make_of_the_texts_padded_on_the_right(texts, side, max_length):
    tokens = tokenizer(side)
    train = split(texts, tokens, max_length)
    for indices in ([0], [1, 0], [3, 2, 1], np.array([2, 2])):
        batch = train.batch(indices)
        chosen = [texts[index] for index in indices]
        expected = tokens(
            *(list(part) for part in zip(*chosen, strict=True)),
            truncation=True,
            max_length=max_length,
            padding=True,
            padding_side="right",
        )
        width = batch["input_ids"].shape[1]
        longest = len(expected["input_ids"][0])
        assert width == min(-(-longest // 8) * 8, max(max_length, longest))
        assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
        for name, tensor in batch.items():
            if name == "labels":
                continue
            assert tensor.dtype == torch.int64
            assert tensor[:, :longest].tolist() == expected[name]
            assert not tensor[:, longest:].any()


def test_more_texts_than_are_encoded_at_once_stay_in_order(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 2)
    train = split(SINGLE, tokenizer(), 64)
    assert train.lengths.tolist() == [5, 3, 12, 9, 7]
    assert train.batch([3])["input_ids"][0, :9].tolist() == [2, *range(5, 12), 3]


def test_pairs_are_joined_by_a_newline_where_the_tokenizer_puts_nothing_between_them():
    train = split(PAIRS, tokenizer(separates=False), 64)
    assert "token_type_ids" not in train.batch([0])
    assert train.batch([0])["input_ids"][0, :5].tolist() == [5, 6, 7, 4, 8]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_text_without_tokens_becomes_a_padding_token_that_is_seen(side):
    tokens = tokenizer(side, separates=False)
    train = split([("a b",), (" ",)], tokens, 8)
    assert train.lengths.tolist() == [2, 1]
    assert train.batch([1])["attention_mask"].tolist() == [[1, 0, 0, 0, 0, 0, 0, 0]]


def test_a_token_that_the_model_has_no_embedding_for_is_refused_by_name():
    tokens, vocabulary = tokenizer(), len(WORDS) - 1
    known, strange = [("a b i",)] * 3, [("a j",)]
    expected = (
        "the tokenizer makes the token 'j' of these texts, its number 14, but the model has embeddings for 14 tokens: "
    )
    with pytest.raises(AutopeftError, match=expected):
        encode(tokens, known + strange, 8, vocabulary)
    assert len(split(known, tokens, 8, vocabulary)) == 3


def test_a_padding_token_that_the_model_has_no_embedding_for_is_replaced():
    tokens = tokenizer()
    tokens.add_special_tokens({"pad_token": "[FILLING]"})
    assert tokens.pad_token_id == len(WORDS)
    train = split(SINGLE, tokens, 8, len(WORDS))
    assert train.columns["input_ids"].padding == 0
    assert train.batch([1])["input_ids"].tolist() == [[2, 5, 3, 0, 0, 0, 0, 0]]
    assert split(SINGLE, tokens, 8).batch([1])["input_ids"].tolist() == [[2, 5, 3, *[len(WORDS)] * 5]]


def test_ways_of_encoding_are_told_apart():
    cut_on_the_left = tokenizer()
    cut_on_the_left.truncation_side = "left"
    keys = [
        key_of(tokenizer(), 8, None),
        key_of(tokenizer(), 9, None),
        key_of(cut_on_the_left, 8, None),
        key_of(tokenizer(), 8, len(WORDS)),
        key_of(tokenizer(separates=False), 8, None),
        key_of(tokenizer(words=WORDS[:-1]), 8, None),
    ]
    assert len(set(keys)) == len(keys)


def test_a_tokenizer_that_was_called_is_the_same():
    tokens, before = tokenizer(), key_of(tokenizer(), 8, None)
    tokens(["a b"], truncation=True, max_length=2, padding=True)
    assert key_of(tokens, 8, None) == before
