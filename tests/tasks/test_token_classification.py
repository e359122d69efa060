"""Tags of words: how data is understood, where labels lie among pieces, how good answers are, and a whole search."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import autopeft
from autopeft.backbone.load import load_backbone
from autopeft.data.store import Dataset, open_split
from autopeft.errors import AutopeftError
from autopeft.space.candidate import Training
from autopeft.tasks.heads import NO_LABEL
from autopeft.tasks.tags import OUTSIDE
from autopeft.tasks.token_classification import TokenClassification
from autopeft.tasks.understanding import TaskData, encoded, understand
from autopeft.training import probe
from autopeft.training.evaluation import constant_statistics
from tests.user import BAD, GOOD, user_folder

NER = TokenClassification((OUTSIDE, "B-LOC", "B-PER", "I-LOC", "I-PER"))
COLUMNS = {"tags": ("tags",), "tokens": ("tokens",)}
POS = TokenClassification(("NOUN", "DET", "VERB"))


def sentence(number: int) -> dict[str, list[str]]:
    """Words whose tags can be told from them."""
    noun, word = ("film", "book", "song")[number % 3], (*GOOD, *BAD)[number % 6]
    tags = ["O", "B-thing", "O", f"B-{'good' if word in GOOD else 'bad'}", "I-good" if word in GOOD else "I-bad"]
    return {"tokens": ["the", noun, "was", word, f"w{number % 70}"], "ner_tags": tags}


def frame(tokens: list[list[str]], tags: list[list[str]]) -> pd.DataFrame:
    return pd.DataFrame({"tokens": tokens, "tags": tags}, dtype=object)


def saved(folder: Path, **splits: list[dict[str, Any]]) -> str:
    folder.mkdir(exist_ok=True)
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def understood(folder: Path, **splits: list[dict[str, Any]]) -> TaskData:
    return understand(saved(folder, **splits))


def test_lists_of_words_and_tags_are_known_and_described(tmp_path: Path) -> None:
    data = understood(tmp_path, train=[sentence(number) for number in range(30)], validation=[sentence(31)])
    assert data.columns == {"tags": ("ner_tags",), "tokens": ("tokens",)}
    assert data.task == TokenClassification(("O", "B-bad", "B-good", "B-thing", "I-bad", "I-good"))
    assert data.task.metric("auto").name == "f1"
    assert data.described() == (
        "token-classification: tokens -> ner_tags",
        "rows: 30 train, 1 validation",
        "6 classes: O 40%, B-thing 20%, B-bad 10%, B-good 10%, I-bad 10%, and 1 more",
        "60 entities of 3 classes: thing 50%, bad 25%, good 25%",
        "tags: IOB2",
    )
    assert data.splits["validation"].inputs == (("the", "book", "was", "fine", "w31"),)
    assert [data.task.classes[tag] for tag in data.splits["validation"].targets[0]] == sentence(31)["ner_tags"]


def test_texts_with_spans_and_conll_files_are_known_too(tmp_path: Path) -> None:
    spans = {"text": "in Oslo, Norway", "entities": [[3, 7, "LOC"], {"start": 10, "end": 15, "label": "LOC"}]}
    data = understood(tmp_path / "spans", train=[spans, {"text": "no", "entities": []}] * 20)
    assert data.task == TokenClassification(("O", "B-LOC"))
    assert "spans that end inside a word, and were given the whole of it: 20" in data.notes
    (tmp_path / "some.conll").write_text("in O\nOslo B-LOC\n\nno O\n\n" * 20)
    assert understand(str(tmp_path / "some.conll")).task == data.task


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a film", "label": "good"},
        {"text": "a film", "labels": ["good", "short"]},
        {"text": "a film", "labels": []},
        {"tokens": "a film", "tags": "good"},
        {"text": "a film", "tags": '["good", "short"]'},
    ],
)
def test_other_data_is_not_taken_for_words_with_tags(row: dict[str, Any]) -> None:
    some = pd.DataFrame([row] * 5)
    assert not TokenClassification.fits(some, {})
    assert TokenClassification.fits(some, {"tags": ("tags",)})
    assert not TokenClassification.fits(some, {"text": ("text",)})


@pytest.mark.parametrize("untagged", [-100, "-100", -100.0])
def test_words_whose_tag_is_minus_100_have_none(tmp_path: Path, untagged: Any) -> None:
    rows = [{"tokens": ["in", "Os", "lo", "New", "York"], "ner_tags": [0, 1, untagged, 1, 2]}] * 30
    data = understood(tmp_path, train=rows, validation=rows, test=[*rows, {"tokens": ["a"], "ner_tags": [7]}])
    assert data.task.classes == ("1", "0", "2")
    assert "words whose tag is -100, of which nothing is learned: 30" in data.notes
    assert "3 classes: 1 50%, 0 25%, 2 25%" in data.described()
    assert data.splits["validation"].targets[0].tolist() == [1, 0, NO_LABEL, 0, 2]
    assert len(data.splits["test"]) == 30
    read = data.task.encode(data.splits["train"], with_tokenizer(fast("bert")), 16)
    assert np.count_nonzero(read.targets.values != NO_LABEL) == 4 * 30
    assert data.task.lost(data.splits["train"], read) == ""


def test_tags_of_words_are_judged_by_accuracy_and_the_most_frequent_is_answered_of_unseen_words(tmp_path: Path) -> None:
    rows = [{"words": ["the", "film", "ends", "well"], "pos_tags": ["DET", "X", "VERB", "X"]}] * 30
    data = understood(tmp_path / "names", train=rows, validation=rows)
    assert data.task.classes == ("X", "DET", "VERB")
    assert data.task.metric("auto").name == "accuracy"
    numbers = [{"tokens": ["the", "film"], "tags": [10, 2]}] * 30
    data = understood(tmp_path / "numbers", train=numbers, validation=numbers)
    assert data.task.classes == ("10", "2")
    assert "tags: numbers without names: a class for each word, judged by the share of right ones" in data.notes


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": ["a", "b"], "ner_tags": ["O"]}, "row 1 of the validation split: 2 tokens have 1 tags; each has"),
        ({"tokens": ["a"], "ner_tags": ["B-new"]}, "row 1 of the validation split has the tag 'B-new', which no train"),
        ({"tokens": [], "ner_tags": []}, "row 1 of the validation split: it has no tokens; leave it out."),
    ],
)
def test_a_broken_row_stops_a_search_but_not_where_it_is_of_the_test_split(
    row: dict[str, Any], said: str, tmp_path: Path
) -> None:
    train = [sentence(number) for number in range(30)]
    with pytest.raises(AutopeftError) as caught:
        understood(tmp_path / "validation", train=train, validation=[row])
    assert said in str(caught.value)
    data = understood(tmp_path / "test", train=train, validation=train, test=[row, sentence(1)])
    assert len(data.splits["test"]) == 1


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (lambda _: ["O", "O"], "column 'ner_tags' holds one tag only, 'O'; nothing is to learn."),
        (
            lambda number: [f"t{number}", "O"],
            "column 'ner_tags' holds 31 different values for 60 words, too many to be",
        ),
    ],
)
def test_what_cannot_be_tags_is_refused(tags: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(AutopeftError) as caught:
        understood(tmp_path, train=[{"tokens": ["a", "b"], "ner_tags": tags(number)} for number in range(30)])
    assert said in str(caught.value)


TEXT = "the film was good the book was bad a film a book unbelievable"


def fast(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of the kind of BERT's or GPT-2's, which knows the words of `TEXT` but for the last."""
    tokenizer: Any
    if kind == "bert":
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *TEXT.split()[:-1], "un", "##believ", "##able"]
        tokenizer = Tokenizer(
            models.WordPiece({piece: at for at, piece in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]")
        )
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [TEXT.rpartition(" ")[0]] * 9, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def with_tokenizer(tokenizer: Any) -> Any:
    return SimpleNamespace(tokenizer=tokenizer, vocabulary=None, name="some model")


def test_the_first_piece_of_a_word_has_its_tag_and_the_others_have_none() -> None:
    rows = NER.rows(frame([["the", "unbelievable", "book"]], [["O", "B-PER", "I-PER"]]), COLUMNS, "train")
    data = NER.encode(rows, with_tokenizer(fast("bert")), 20)
    assert fast("bert").convert_ids_to_tokens(data.columns["input_ids"][0]) == [
        "the",
        "un",
        "##believ",
        "##able",
        "book",
    ]
    assert data.targets[0].tolist() == [0, 2, NO_LABEL, NO_LABEL, 4]
    assert data.targets.padding == NO_LABEL
    assert NER.lost(rows, data) == ""


def test_words_are_those_of_running_text_for_tokenizers_that_see_blanks() -> None:
    tokenizer, words = fast("gpt2"), TEXT.split()[:-1]
    read = NER.encoded([tuple(words)], with_tokenizer(tokenizer), 30)
    whole = tokenizer(" " + " ".join(words))["input_ids"]
    assert read["input_ids"][0].tolist() == whole
    assert read["labels"][0].tolist() == list(range(len(words)))


def test_words_beyond_the_longest_text_are_counted_and_answered_as_outside() -> None:
    backbone = with_tokenizer(fast("bert"))
    words, tags = ["the", "", "film", "unbelievable", "book"], ["O", "O", "B-PER", "I-PER", "I-PER"]
    rows = NER.rows(frame([words, ["book"]], [tags, ["B-LOC"]]), COLUMNS, "train")
    data = NER.encode(rows, backbone, 3)
    assert data.targets[0].tolist() == [0, 2, 4]
    assert NER.lost(rows, data).startswith("2 of 6 words are not read: they lie beyond 3 tokens (--max-length)")
    read = Dataset(NER.encoded(rows.inputs, backbone, 3), 3)
    batch = read.batch([0, 1])
    output = 9 * torch.nn.functional.one_hot(torch.full(batch["labels"].shape, 4), 5).float()
    long, short = NER.parts(output, batch, rows.inputs)
    assert long.argmax(-1).tolist() == [4, 0, 4, 4, 0]
    assert short.argmax(-1).tolist() == [4]
    assert [each["words"] for each in NER.answers([long], rows.inputs[:1])[0]] == [["the"], ["film", "unbelievable"]]


def test_a_tokenizer_that_does_not_tell_words_is_refused() -> None:
    with pytest.raises(AutopeftError, match=r"the tokenizer of 'some model' does not tell .* a file tokenizer\.json\."):
        NER.encoded([("a",)], with_tokenizer(SimpleNamespace(is_fast=False, pad_token_id=0)), 8)


def test_answers_are_entities_with_words_scores_and_where_they_lie_in_a_text() -> None:
    text, said = "Near  Oslo fjord.", [0, 1, 3, 0]
    part = torch.nn.functional.one_hot(torch.tensor(said), 5).float() * 3
    ((found,), (same,)) = NER.answers([part, part], [text, ("Near", "Oslo", "fjord", ".")])
    probability = float(part[1].softmax(0)[1])
    assert found == {"entity": "LOC", "words": ["Oslo", "fjord"], "first": 1, "last": 2, "start": 6, "end": 16} | {
        "score": pytest.approx(probability)
    }
    assert text[found["start"] : found["end"]] == "Oslo fjord"
    assert same == {name: value for name, value in found.items() if name not in ("start", "end")}
    ((near, *_),) = NER.scores([part])
    assert near["O"] == pytest.approx(probability)
    assert sum(near.values()) == pytest.approx(1)
    assert POS.answers([torch.eye(3)], [("films", "the", "end")]) == [["NOUN", "DET", "VERB"]]


@pytest.mark.parametrize(
    ("expected", "answered", "scores"),
    [
        (
            ["O O O B-MISC I-MISC I-MISC O", "B-PER I-PER O"],
            ["O O B-MISC I-MISC I-MISC I-MISC O", "B-PER I-PER O"],
            (0.5, 0.5, 0.5, 0.8),
        ),
        (
            ["B-PER I-PER O B-LOC", "O O B-ORG", "B-LOC O"],
            ["B-PER I-PER O B-ORG", "O B-ORG O", "B-LOC B-LOC"],
            (0.4444, 0.4, 0.5, 0.5556),
        ),
        (
            ["I-PER I-PER B-PER O", "O I-LOC I-ORG"],
            ["I-PER I-PER I-PER O", "O I-LOC I-ORG"],
            (0.5714, 0.6667, 0.5, 0.8571),
        ),
        (
            ["B-PER E-PER S-LOC O", "S-ORG O B-LOC E-LOC"],
            ["B-PER E-PER O O", "S-LOC O B-LOC E-LOC"],
            (0.5714, 0.6667, 0.5, 0.75),
        ),
        (["O O", "B-PER O"], ["O O", "O O"], (0.0, 0.0, 0.0, 0.75)),
        (["B-PER I-PER", "O B-LOC"], ["I-PER I-PER", "O I-LOC"], (1.0, 1.0, 1.0, 0.5)),
    ],
)
def test_scores_are_those_of_seqeval(expected: list[str], answered: list[str], scores: tuple[float, ...]) -> None:
    tags = tuple(dict.fromkeys(tag for row in (*expected, *answered) for tag in row.split()))
    task = TokenClassification(tags)
    length = max(len(row.split()) for row in expected)
    batch = {"labels": torch.full((len(expected), length), NO_LABEL)}
    output = torch.zeros(len(expected), length, len(tags))
    for row, (right, said) in enumerate(zip(expected, answered, strict=True)):
        for at, (tag, answer) in enumerate(zip(right.split(), said.split(), strict=True)):
            batch["labels"][row, at] = tags.index(tag)
            output[row, at, tags.index(answer)] = 1
    statistics = task.new_head(8, Training()).statistics(output, batch)
    assert tuple(round(metric.of(statistics), 4) for metric in task.metrics) == scores


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = user_folder(tmp_path_factory.mktemp("user"))
    rows = [sentence(number) for number in range(150)]
    saved(folder / "data", train=rows[:90], validation=rows[90:])
    return folder


def test_a_probe_is_fitted_to_some_words_of_all_rows(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, data = load_backbone(str(place / "model")), understand(str(place / "data"))
    folder = encoded(data, backbone, 16, tmp_path)
    train, validation = (open_split(folder, name) for name in ("train", "validation"))
    heads = [data.task.new_head(48, Training())]
    ((features, targets),) = probe.features_of(backbone.model, heads, train, torch.device("cpu"))
    assert features.shape == (450, 48)
    assert (targets == train.targets.values).all()
    monkeypatch.setattr(probe, "MOST_ITEMS", 200)
    ((features, targets),) = probe.features_of(backbone.model, heads, train, torch.device("cpu"))
    assert 150 < len(features) < 250
    assert len(targets) == len(features)
    found = probe.fit_probes(backbone.model, 48, data.task, train, validation, ["mean", "last"], tmp_path)
    assert (found["mean"].statistics == found["last"].statistics).all()
    f1 = data.task.metric("f1")
    assert f1.of(constant_statistics(data.task, train, validation, 48)) == 0
    assert f1.of(found["mean"].statistics) > 0.5


def test_a_whole_search_finds_a_model_that_names_entities(place: Path, tmp_path: Path) -> None:
    search = autopeft.search(
        model=str(place / "model"),
        data=str(place / "data"),
        space="quick",
        methods=("lora",),
        trials=2,
        max_length=16,
        workers=0,
        storage=f"sqlite:///{tmp_path}/searches.db",
        folder=str(tmp_path / "runs"),
        name="tags",
    )
    assert len(search.front) >= 1
    best = search.select()
    best.save(tmp_path / "winner")
    model = autopeft.load(tmp_path / "winner")
    text = "the book w3 was awful"
    ((entity, *_), _) = model.predict([text, ("the", "film")])
    assert entity["entity"] in ("thing", "bad", "good")
    assert text[entity["start"] : entity["end"]].split() == entity["words"]
    alone, together = model.logits(text), model.logits([text, "a " * 14])
    assert alone.shape == (5, len(model.task.classes))
    assert torch.allclose(alone, together[0], atol=0.1)  # in bf16 where the machine has it
    search.export(best.number, tmp_path / "merged", merge=True)
    assert torch.allclose(autopeft.load(tmp_path / "merged").logits(text), alone, atol=0.1)
