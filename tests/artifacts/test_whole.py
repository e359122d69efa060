"""Exported folders in the hands of people who do not know autopeft: whole and right, or refused."""

import json

import peft
import pytest
import torch
import transformers
from transformers import AutoModel

from autopeft.artifacts import export, load
from autopeft.backbone.load import quietly
from autopeft.tasks.image_classification import ImageClassification
from autopeft.tasks.multi_label_classification import MultiLabelClassification
from autopeft.tasks.text_classification import TextClassification
from autopeft.tasks.text_regression import TextRegression
from autopeft.tasks.token_classification import TokenClassification
from tests.backbone.architectures import new
from tests.pictures import photograph, tiny_vit
from tests.saved import saved
from tests.trained import of_task

# As a person might call them who means no harm, and as one might who does.
CLASSES = ("bad", "fair\n---\nbase_model: evil", "good' \x1b[2J <b>`x`</b>")
TEXTS = ["w7 w8 w9", "w20", "w30 w31 w32 w33 w34 w35 w36"]
CLASSIFY = TextClassification(("text",), CLASSES)
SEVERAL = MultiLabelClassification(("text",), CLASSES)
NUMBER = TextRegression(("text",), 30.0, 4.0)
TAGS = TokenClassification(("O", "B-X", "I-X"))
IMAGES = ImageClassification(CLASSES)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    folders = {name: saved(root / name, name) for name in ("bert", "gpt2", "llama")}
    processor = transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})
    for name in ("dinov2", "swin"):
        saved(root / name, model=new(name), tokenizer=False)
        processor.save_pretrained(root / name)
    return {**folders, "vit": tiny_vit(root / "vit"), "dinov2": root / "dinov2", "swin": root / "swin"}


def merged(backbones, tmp_path, name, task, pooling="mean", bias=True):
    artifact = of_task(tmp_path / "winner", backbones[name], task, pooling=pooling, bias=bias)
    return export(artifact, tmp_path / "merged", merge=True)


def asked(folder, task, **options):
    with quietly():
        return transformers.pipeline(task.pipeline, model=str(folder), **options)


@pytest.mark.parametrize("task", [CLASSIFY, SEVERAL])
def test_a_pipeline_gives_the_probabilities_of_a_decoder_with_a_layer_norm(task, backbones, tmp_path):
    folder = merged(backbones, tmp_path, "gpt2", task, "last")
    told = asked(folder, task, top_k=None)(TEXTS, batch_size=3)
    found = [{each["label"]: each["score"] for each in of_text} for of_text in told]
    for one, other in zip(found, load(folder).scores(TEXTS), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_a_pipeline_gives_numbers_in_the_unit_of_the_data(backbones, tmp_path):
    folder = merged(backbones, tmp_path, "gpt2", NUMBER, "last")
    told = [each["score"] for each in asked(folder, NUMBER)(TEXTS)]
    assert told == pytest.approx(load(folder).predict(TEXTS), rel=1e-4)
    assert max(told) > 10


def test_a_pipeline_gives_the_tags_of_words(backbones, tmp_path):
    folder = merged(backbones, tmp_path, "bert", TAGS)
    told = asked(folder, TAGS, ignore_labels=[])(TEXTS)
    expected = [[max(word, key=word.get) for word in each] for each in load(folder).scores(TEXTS)]
    assert [[each["entity"] for each in of_text] for of_text in told] == expected
    assert {tag for tags in expected for tag in tags} > {"O"}


@pytest.mark.parametrize(
    ("name", "pooling", "kind"),
    [
        ("vit", "first", "ViTForImageClassification"),
        ("dinov2", "first", "Dinov2ForImageClassification"),
        ("dinov2", "mean", "Dinov2ForImageClassification"),
        ("swin", "mean", "SwinForImageClassification"),
    ],
)
def test_a_pipeline_gives_the_classes_of_images(name, pooling, kind, backbones, tmp_path):
    folder = merged(backbones, tmp_path, name, IMAGES, pooling)
    ask, images = asked(folder, IMAGES), [photograph(colour, 1, (32, 32)) for colour in ("blue", "red")]
    assert type(ask.model).__name__ == kind
    for told, expected in zip(ask(images), load(folder).scores(images), strict=True):
        assert {each["label"]: each["score"] for each in told} == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "task", "pooling"),
    [
        ("bert", CLASSIFY, "mean"),
        ("bert", CLASSIFY, "first"),
        ("llama", CLASSIFY, "last"),
        ("gpt2", CLASSIFY, "mean"),
        ("vit", IMAGES, "mean"),
        ("swin", IMAGES, "first"),
    ],
)
def test_what_no_class_of_transformers_computes_loads_as_none(name, task, pooling, backbones, tmp_path):
    """A class with a head of random values answers like a model that was trained."""
    folder = merged(backbones, tmp_path, name, task, pooling)
    with quietly():
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            getattr(transformers, task.auto_class).from_pretrained(folder)
        assert type(AutoModel.from_pretrained(folder)) is type(load(folder).backbone.model)
    told = (folder / "README.md").read_text(encoding="utf-8")
    assert "**transformers alone gives states, not answers.**" in told
    assert f"the folder cannot be loaded as {task.auto_class}" in told


def test_a_decoder_without_a_bias_needs_none(backbones, tmp_path):
    folder = merged(backbones, tmp_path, "llama", CLASSIFY, "last", bias=False)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForSequenceClassification"]


def test_texts_of_a_merged_decoder_are_padded_and_cut_as_in_training(backbones, tmp_path):
    folder = merged(backbones, tmp_path, "gpt2", CLASSIFY, "last")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.padding_side, tokenizer.model_max_length) == ("right", 16)
    assert json.loads((folder / "config.json").read_text())["pad_token_id"] == tokenizer.pad_token_id


@pytest.mark.parametrize("what", ["lora", "adapter", "prompt_tuning"])
def test_a_method_loads_as_no_classifier(what, backbones, tmp_path):
    artifact = of_task(tmp_path / "winner", backbones["bert"], CLASSIFY, [what])
    folder = export(artifact, tmp_path / "exported")
    with quietly(), pytest.raises(OSError, match="no file named"):
        transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with (
        quietly(),
        pytest.raises(ValueError, match=r"Expected target PEFT class: PeftModelForFeature|Can't find 'adapter"),
    ):
        peft.AutoPeftModelForSequenceClassification.from_pretrained(str(folder))
    assert torch.equal(load(folder).logits(TEXTS), load(artifact).logits(TEXTS))


@pytest.mark.parametrize("merge", [False, True])
def test_classes_have_their_names_in_the_configuration(merge, backbones, tmp_path):
    artifact = of_task(tmp_path / "winner", backbones["bert"], SEVERAL)
    config = transformers.AutoConfig.from_pretrained(export(artifact, tmp_path / "exported", merge=merge))
    assert config.id2label == dict(enumerate(CLASSES))
    assert config.label2id == {name: number for number, name in enumerate(CLASSES)}
    assert config.problem_type == "multi_label_classification"
    assert config.num_labels == 3


def test_what_is_merged_already_stays_what_it_is(backbones, tmp_path):
    folder = merged(backbones, tmp_path, "bert", TAGS)
    again = export(folder, tmp_path / "again")
    assert load(again).predict(TEXTS) == load(folder).predict(TEXTS)
    assert (again / "config.json").read_text() == (folder / "config.json").read_text()
    assert "In transformers, as BertForTokenClassification:" in (again / "README.md").read_text(encoding="utf-8")
