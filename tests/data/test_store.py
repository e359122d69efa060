from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from autopeft.data import store
from autopeft.data.columns import Columns
from autopeft.data.rows import Split, TaskData
from autopeft.data.store import encode, open_split, tokenize
from autopeft.errors import AutopeftError

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


def task_data(
    texts: list[tuple[str, ...]], fingerprint: str = "x", test: list[tuple[str, ...]] | None = None
) -> TaskData:
    def split(some: list[tuple[str, ...]]) -> Split:
        return Split(tuple(some), np.arange(len(some), dtype=np.int64) % 2)

    splits = {"train": split(texts), "validation": split(texts[:2])} | ({"test": split(test)} if test else {})
    return TaskData("text-classification", Columns(("text",) * len(texts[0]), "label"), ("0", "1"), splits, fingerprint)


SINGLE = [(LETTERS[: 2 * length - 1],) for length in (3, 1, 10, 7, 5)]
PAIRS = [("a b c", "d"), ("e", "f g h i j"), ("a a a a a a a", "b b b b b b b"), ("a", "")]


@pytest.mark.parametrize("texts", [SINGLE, PAIRS], ids=["single", "pairs"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("max_length", [8, 12, 64])
def test_a_batch_is_what_the_tokenizer_would_make_of_the_texts_padded_on_the_right(tmp_path, texts, side, max_length):
    tokens = tokenizer(side)
    train = open_split(tokenize(task_data(texts), tokens, max_length, tmp_path), "train")
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
        assert set(batch) == {"input_ids", "attention_mask", "token_type_ids"}
        for name, tensor in batch.items():
            assert tensor.dtype == torch.int64
            assert tensor[:, :longest].tolist() == expected[name]
            assert not tensor[:, longest:].any()


def test_a_split_knows_its_examples_lengths_and_labels(tmp_path):
    train = open_split(tokenize(task_data(SINGLE), tokenizer(), 8, tmp_path), "train")
    assert len(train) == 5
    assert train.lengths.tolist() == [5, 3, 8, 8, 7]
    assert train.labels.tolist() == [0, 1, 0, 1, 0]
    assert train.padding == store.Padding(0, 8)


def test_tokens_are_memory_mapped_and_labels_are_not(tmp_path):
    train = open_split(tokenize(task_data(SINGLE), tokenizer(), 8, tmp_path), "train")
    assert isinstance(train.ids, np.memmap)
    assert isinstance(train.types, np.memmap)
    assert train.labels.flags.writeable
    torch.from_numpy(train.labels)


def test_more_texts_than_are_encoded_at_once_stay_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_CHUNK", 2)
    train = open_split(tokenize(task_data(SINGLE), tokenizer(), 64, tmp_path), "train")
    assert train.lengths.tolist() == [5, 3, 12, 9, 7]
    assert train.batch([3])["input_ids"][0, :9].tolist() == [2, *range(5, 12), 3]


def test_pairs_are_joined_by_a_newline_where_the_tokenizer_puts_nothing_between_them(tmp_path):
    train = open_split(tokenize(task_data(PAIRS), tokenizer(separates=False), 64, tmp_path), "train")
    assert train.types is None
    assert "token_type_ids" not in train.batch([0])
    assert train.batch([0])["input_ids"][0, :5].tolist() == [5, 6, 7, 4, 8]


@pytest.mark.parametrize("separates", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_what_is_predicted_is_encoded_as_in_training(tmp_path, side, separates):
    tokens = tokenizer(side, separates)
    train = open_split(tokenize(task_data(PAIRS), tokens, 8, tmp_path), "train")
    encoded = encode(tokens, PAIRS, 8)
    assert encoded.keys() == train.batch([0]).keys()
    for name, tensor in train.batch(range(len(PAIRS))).items():
        assert torch.equal(encoded[name], tensor)
    single = encode(tokens, ["a b", "c"], 8)
    assert torch.equal(single["input_ids"], encode(tokens, [("a b",), ("c",)], 8)["input_ids"])


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_text_without_tokens_becomes_a_padding_token_that_is_seen(tmp_path, side):
    tokens = tokenizer(side, separates=False)
    train = open_split(tokenize(task_data([("a b",), (" ",)]), tokens, 8, tmp_path), "train")
    assert train.lengths.tolist() == [2, 1]
    assert encode(tokens, [""], 8)["attention_mask"].tolist() == [[1, 0, 0, 0, 0, 0, 0, 0]]
    assert encode(tokens, ["a b", ""], 8)["attention_mask"].sum(1).tolist() == [2, 1]


@pytest.mark.parametrize("of", ["train", "test"])
def test_a_token_that_the_model_has_no_embedding_for_is_refused_by_name_where_it_occurs(tmp_path, of):
    tokens, vocabulary = tokenizer(), len(WORDS) - 1
    known, strange = [("a b i",)] * 3, [("a j",)]
    data = {"train": task_data(known + strange), "test": task_data(known, test=strange)}[of]
    expected = (
        "the tokenizer makes the token 'j' of these texts, its number 14, but the model has embeddings for 14 tokens: "
    )
    with pytest.raises(AutopeftError, match=expected):
        tokenize(data, tokens, 8, tmp_path, vocabulary)
    assert folders(tmp_path) == []
    with pytest.raises(AutopeftError, match=expected):
        encode(tokens, strange, 8, vocabulary)
    assert len(open_split(tokenize(task_data(known), tokens, 8, tmp_path, vocabulary), "train")) == 3
    assert encode(tokens, known, 8, vocabulary).keys() == encode(tokens, known, 8).keys()


def test_a_padding_token_that_the_model_has_no_embedding_for_is_replaced(tmp_path):
    tokens = tokenizer()
    tokens.add_special_tokens({"pad_token": "[FILLING]"})
    assert tokens.pad_token_id == len(WORDS)
    train = open_split(tokenize(task_data(SINGLE), tokens, 8, tmp_path, len(WORDS)), "train")
    assert train.padding.token == 0
    assert train.batch([1])["input_ids"].tolist() == [[2, 5, 3, 0, 0, 0, 0, 0]]
    assert encode(tokens, ["a"], 8, len(WORDS))["input_ids"].tolist() == [[2, 5, 3, 0, 0, 0, 0, 0]]
    assert encode(tokens, ["a"], 8)["input_ids"].tolist() == [[2, 5, 3, *[len(WORDS)] * 5]]


def test_tokens_that_were_prepared_when_padding_had_a_side_are_still_read(tmp_path):
    made = tokenize(task_data(SINGLE), tokenizer("left"), 8, tmp_path)
    (made / "padding.json").write_text('{"token": 0, "side": "left", "longest": 8}')
    assert open_split(made, "train").batch([1])["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]


def folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_the_same_content_is_tokenized_once(tmp_path, monkeypatch):
    tokens = tokenizer()
    made = tokenize(task_data(SINGLE), tokens, 8, tmp_path)
    monkeypatch.setattr(store, "_write_split", lambda *_: pytest.fail("tokenized again"))
    assert tokenize(task_data(SINGLE), tokens, 8, tmp_path) == made
    assert tokenize(task_data(SINGLE), tokenizer(), 8, tmp_path) == made
    assert folders(tmp_path) == [made.name]


def test_other_content_is_tokenized_anew(tmp_path):
    cut_on_the_left = tokenizer()
    cut_on_the_left.truncation_side = "left"
    others = [
        tokenize(task_data(SINGLE), tokenizer(), 8, tmp_path),
        tokenize(task_data(SINGLE), tokenizer(), 9, tmp_path),
        tokenize(task_data(SINGLE, "y"), tokenizer(), 8, tmp_path),
        tokenize(task_data(SINGLE, test=SINGLE[:1]), tokenizer(), 8, tmp_path),
        tokenize(task_data(SINGLE, test=SINGLE[:2]), tokenizer(), 8, tmp_path),
        tokenize(task_data(SINGLE), cut_on_the_left, 8, tmp_path),
        tokenize(task_data(SINGLE), tokenizer(), 8, tmp_path, len(WORDS)),
        tokenize(task_data(SINGLE), tokenizer(separates=False), 8, tmp_path),
        tokenize(task_data(SINGLE), tokenizer(words=WORDS[:-1]), 8, tmp_path),
    ]
    assert len(set(others)) == len(others)


def test_tokens_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    write = store._write_split

    def interrupted(folder: Path, *arguments: object) -> None:
        if folder.name == "validation":
            raise KeyboardInterrupt
        write(folder, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "_write_split", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tokenize(task_data(SINGLE), tokenizer(), 8, tmp_path)
    assert folders(tmp_path) == []


def test_when_two_make_the_same_tokens_at_once_both_find_them_whole(tmp_path, monkeypatch):
    write = store._write_split
    found = []

    def overtaken(folder: Path, *arguments: object) -> None:
        monkeypatch.setattr(store, "_write_split", write)
        write(folder, *arguments)  # type: ignore[arg-type]
        found.append(tokenize(task_data(SINGLE), tokenizer(), 8, tmp_path))

    monkeypatch.setattr(store, "_write_split", overtaken)
    found.append(tokenize(task_data(SINGLE), tokenizer(), 8, tmp_path))
    assert found[0] == found[1]
    assert folders(tmp_path) == [found[0].name]
    assert len(open_split(found[0], "validation")) == 2


def test_a_folder_that_cannot_be_written_is_no_silent_success(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        tokenize(task_data(SINGLE), tokenizer(), 8, tmp_path / "file")
