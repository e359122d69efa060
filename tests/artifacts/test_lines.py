"""The lines of a model card, as somebody pastes them, answer what autopeft answers, long texts and punctuation too."""

from dataclasses import replace

import numpy as np
import pytest
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from autopeft.artifacts import export, load
from autopeft.artifacts.reading import Reading, reading
from autopeft.artifacts.usage import HERE, Form, usage
from autopeft.backbone.load import quietly
from autopeft.tasks.image_classification import ImageClassification
from autopeft.tasks.text_classification import TextClassification
from autopeft.tasks.text_regression import TextRegression
from autopeft.tasks.token_classification import TokenClassification
from tests.pictures import photograph, tiny_vit
from tests.saved import saved
from tests.tiny import VOCABULARY, tiny
from tests.trained import of_task

LONG = "a good film, and it's long " * 9
SAID = "Mr. O'Neil went"
TAGS = TokenClassification(("O", "B-X", "I-X", "B-Y", "I-Y"))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """With a tokenizer that takes a word after a blank for another one, and puts nothing between texts."""
    folder = saved(tmp_path_factory.mktemp("decoder"), model=tiny("gpt2"), tokenizer=False)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    # Few bytes, because the model has few embeddings.
    kinds = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<|end|>"], show_progress=False)
    backend.train_from_iterator([LONG, SAID, "bad\nfilm"], kinds)
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|end|>")
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **ends).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """With a tokenizer that marks the pieces which continue a word."""
    folder = saved(tmp_path_factory.mktemp("bert"), model=tiny("bert"), tokenizer=False)
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer, backend.normalizer = pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer()
    special = ["[PAD]", "[UNK]"]
    kinds = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    backend.train_from_iterator([LONG, SAID], kinds)
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **named).save_pretrained(folder)
    return folder


def run(folder, *replaced, last=True):
    """What the first block of a card gives, as its last line alone or by name."""
    code = (folder / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    for old, new in ((HERE, str(folder)), *replaced):
        assert old in code
        code = code.replace(old, new)
    *before, asked = code.strip().splitlines()
    names = {}
    with quietly():
        exec("\n".join(before if last else [*before, asked]), names)
        return eval(asked, names) if last else names


def test_long_texts_are_cut_by_a_pipeline(decoder, tmp_path):
    artifact = of_task(tmp_path / "winner", decoder, TextRegression(("text",), 30.0, 4.0), pooling="last")
    folder = export(artifact, tmp_path / "merged", merge=True)
    (told,) = run(folder, ('"…"', repr(LONG)))
    assert told["score"] == pytest.approx(load(artifact).predict(LONG), rel=1e-4)


def test_pairs_are_joined_where_the_tokenizer_puts_nothing_between_them(decoder, tmp_path):
    task = TextClassification(("one", "other"), ("bad", "fair", "good"))
    artifact = of_task(tmp_path / "winner", decoder, task, pooling="last")
    expected = load(artifact).scores(("a good", "film"))
    (told,) = run(export(artifact, tmp_path / "merged", merge=True), ('"…\\n…"', '"a good\\nfilm"'))
    assert told["score"] == pytest.approx(expected[told["label"]], abs=1e-4)
    (_, block, *_) = usage(Form.ONNX, task, "", "", Reading(joined=True))
    assert r'tokenizer(["…\n…"], padding=True, truncation=True' in block


def tags_of(model, asked):
    """Of each word that the model reads: the most probable tag."""
    return [max(word, key=word.get) for word in model.scores(asked)]


def test_words_are_given_as_in_training_where_a_plain_text_is_cut_otherwise(decoder, tmp_path):
    words = ("it", "'", "s", "a", ".", *LONG.split())
    artifact = of_task(tmp_path / "winner", decoder, TAGS)
    expected = tags_of(load(artifact), words)
    given = ('["…", "…"]', repr(list(words)))
    merged = export(artifact, tmp_path / "merged", merge=True)
    told = run(merged, given)
    assert told == [*zip(words, expected, strict=True)][: len(told)]
    assert len(told) > 4
    assert len({tag for _, tag in told}) > 1
    assert "`pipeline` cuts a text into other words" in (merged / "README.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_words_are_given_to_a_graph_as_in_training(decoder, tmp_path):
    words = ("it", "'", "s", "a", ".", *LONG.split())
    artifact = of_task(tmp_path / "winner", decoder, TAGS)
    onnx = export(artifact, tmp_path / "onnx", onnx=True)
    told = run(onnx, ('["…", "…"]', repr(list(words))))
    assert len(told) > 4
    expected = tags_of(load(artifact), words)
    assert [(word, TAGS.classes[tag]) for word, tag in told] == [*zip(words, expected, strict=True)][: len(told)]
    assert "The tag of a word is that of its first piece." in (onnx / "README.md").read_text(encoding="utf-8")


def test_a_pipeline_is_given_plain_texts_where_it_cuts_them_as_autopeft_does(bert, tmp_path):
    artifact = of_task(tmp_path / "winner", bert, TAGS)
    told = run(export(artifact, tmp_path / "merged", merge=True), ('"…"', repr(SAID)))
    entities = [(each["entity"], each["start"], each["end"]) for each in load(artifact).predict(SAID)]
    assert [(each["entity_group"], each["start"], each["end"]) for each in told] == entities
    assert entities


def test_answers_of_a_task_of_ones_own_are_not_said_to_be_its_outputs(decoder, tmp_path):
    class Shifted(TextRegression):
        def answers(self, output, inputs):
            return [each + 100 for each in super().answers(output, inputs)]

    trained = load(of_task(tmp_path / "winner", decoder, TextRegression(("text",), 30.0, 4.0), pooling="last"))
    assert reading(trained, trained.backbone.processor).numbers
    task = Shifted(("text",), 30.0, 4.0)
    trained.description = replace(trained.description, task=task)
    found = reading(trained, trained.backbone.processor)
    assert not found.numbers
    told, block, *_ = usage(Form.ONNX, task, "", "", found)
    assert "the number itself" not in told
    assert "makes answers" in told
    assert "\nlogits, *_ = session.run" in block


def test_photographs_are_turned_as_their_camera_says(tmp_path):
    artifact = of_task(tmp_path / "winner", tiny_vit(tmp_path / "vit"), ImageClassification(("blue", "green", "red")))
    turned, exif = tmp_path / "turned.png", Image.Exif()
    exif[0x0112] = 6
    photograph("red", 1, (32, 32)).save(turned, exif=exif)
    folder = export(artifact, tmp_path / "onnx", onnx=True)
    made = run(folder, ("photo.jpg", str(turned)), last=False)
    expected = load(artifact).logits(str(turned))
    assert np.allclose(made["logits"][0], expected, atol=1e-3)
    assert not np.allclose(load(artifact).logits(photograph("red", 1, (32, 32))), expected, atol=1e-2)
    assert "transparent parts" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", [Form.WHOLE, Form.ONNX])
def test_who_reads_in_another_way_is_told_so(form):
    task = TextClassification(("text",), ("no", "yes"))
    assert "expect other answers" in " ".join(usage(form, task, "A", "'b'", Reading(alike=False)))
    assert "expect other answers" not in " ".join(usage(form, task, "A", "'b'", Reading()))
