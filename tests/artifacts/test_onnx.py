"""One ONNX file in the hands of somebody who has onnxruntime, and no torch."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from autopeft import errors
from autopeft.artifacts import export, load, onnx
from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.tasks.image_classification import ImageClassification
from autopeft.tasks.text_classification import TextClassification
from autopeft.tasks.text_regression import TextRegression
from autopeft.tasks.token_classification import TokenClassification
from tests.pictures import photograph, tiny_vit
from tests.saved import saved
from tests.trained import of_task

TEXTS = ["w7 w8 w9", "w20", "w30 w31 w32 w33 w34 w35 w36"]


CLASSIFY = TextClassification(("text",), ("bad", "fair", "good"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="module")
def ladder(bert, tmp_path_factory):
    """A method that does not merge, and what was exported of it."""
    place = tmp_path_factory.mktemp("ladder")
    artifact = of_task(place / "winner", bert, CLASSIFY, ["ladder"], "last")
    return load(artifact), export(artifact, place / "onnx", onnx=True)


def said(folder, made):
    """By name; the processor lies beside the file."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    given = {each.name: made[each.name] for each in session.get_inputs()}
    return dict(zip((each.name for each in session.get_outputs()), session.run(None, given), strict=True))


def read(folder, texts):
    return transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, truncation=True, return_tensors="np")


def test_texts_of_any_number_and_length_are_classified(ladder):
    trained, folder = ladder
    for texts in (TEXTS, TEXTS[:1], ["w9 " * 40]):
        found = said(folder, read(folder, texts))
        expected = np.array([[each[name] for name in CLASSIFY.classes] for each in trained.scores(texts)])
        assert np.allclose(found["probabilities"], expected, atol=1e-4)
        assert np.allclose(found["logits"], trained.logits(texts), atol=1e-4)


def test_all_that_is_needed_lies_in_the_folder_and_no_model_of_transformers(ladder):
    _, folder = ladder
    files = {"README.md", "config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in folder.iterdir()} == files
    assert json.loads((folder / "config.json").read_text())["id2label"] == {"0": "bad", "1": "fair", "2": "good"}
    with pytest.raises(OSError, match="no file named"):
        transformers.AutoModelForSequenceClassification.from_pretrained(folder)


def test_a_file_that_answers_otherwise_is_found_out(ladder, bert, tmp_path):
    other = load(of_task(tmp_path / "other", bert, CLASSIFY, ["bitfit"]))
    with pytest.raises(ValueError, match="in onnxruntime its answers differ by"):
        onnx._compare(ladder[1], other, [("w7",), ("w8 w9",)])


@pytest.mark.long
def test_tags_are_given_of_every_token(tmp_path):
    backbone = saved(tmp_path / "llama", "llama")
    artifact = of_task(tmp_path / "winner", backbone, TokenClassification(("O", "B-X", "I-X")), ["prompt_tuning"])
    folder = export(artifact, tmp_path / "onnx", onnx=True)
    found = said(folder, read(folder, TEXTS))["logits"]
    for row, expected in zip(found, load(artifact).logits(TEXTS), strict=True):
        assert np.allclose(row[: len(expected)], expected, atol=1e-4)


@pytest.mark.long
def test_images_are_read_as_their_processor_makes_them(tmp_path):
    backbone = tiny_vit(tmp_path / "vit")
    artifact = of_task(tmp_path / "winner", backbone, ImageClassification(("blue", "green", "red")), pooling="first")
    folder = export(artifact, tmp_path / "onnx", onnx=True)
    images = [photograph(colour, 1) for colour in ("blue", "red", "green")]
    made = transformers.AutoImageProcessor.from_pretrained(folder)(images, return_tensors="np")
    assert np.allclose(said(folder, made)["logits"], load(artifact).logits(images), atol=0.05)


@pytest.fixture
def quick(monkeypatch):
    """Nothing is exported: the file holds nothing."""
    tried = []

    def nothing(file, model, given, newer):
        tried.append((model, given, newer))
        file.write_bytes(b"")

    monkeypatch.setattr(onnx, "_export", nothing)
    monkeypatch.setattr(onnx, "_compare", lambda *_: None)
    return tried


def test_what_merges_is_merged_and_numbers_have_their_unit(quick, bert, tmp_path):
    task = TextRegression(("text",), 30.0, 4.0)
    artifact = of_task(tmp_path / "winner", bert, task)
    export(artifact, tmp_path / "onnx", onnx=True)
    ((model, given, _),) = quick
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    with torch.no_grad():
        (answers,) = model(*given)
    sample = task.samples(load(artifact).backbone)[:2]
    assert answers[:, 0].tolist() == pytest.approx(load(artifact).predict([text for (text,) in sample]), rel=1e-4)


def test_the_earlier_exporter_is_asked_where_the_newer_one_fails_and_both_reasons_are_told(
    quick, bert, tmp_path, monkeypatch
):
    def wrong(*_):
        raise ValueError(f"in onnxruntime its answers differ by {len(quick)}")

    monkeypatch.setattr(onnx, "_compare", wrong)
    artifact = of_task(tmp_path / "winner", bert, TextClassification(("text",), ("no", "yes")), ["adapter"])
    with pytest.raises(
        AutopeftError, match=r"as ONNX: in .* differ by 1; by the earlier exporter: in .* differ by 2\."
    ):
        export(artifact, tmp_path / "onnx", onnx=True)
    assert [newer for _, _, newer in quick] == [True, False]
    assert not (tmp_path / "onnx").exists()


def test_answers_are_compared_on_the_rows_that_the_search_judged_by(tmp_path):
    for split, word in (("train", "seen"), ("validation", "held")):
        rows = "".join(f"{word} {number},{'yes' if number % 2 else 'no'}\n" for number in range(6))
        (tmp_path / f"{split}.csv").write_text(f"text,label\n{rows}")
    plan = Plan("model", str(tmp_path))
    assert onnx.validation_inputs(plan)[:2] == (("held 0",), ("held 1",))
    assert onnx.validation_inputs(replace(plan, data=str(tmp_path / "gone"))) == ()


def test_what_cannot_be_had_is_answered_before_anything_is_loaded(tmp_path, monkeypatch):
    with pytest.raises(AutopeftError, match="give merge or onnx, not both"):
        export(tmp_path, tmp_path / "onnx", merge=True, onnx=True)
    known = importlib.util.find_spec
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "onnxscript" else known(name))
    with pytest.raises(AutopeftError, match=r"this needs onnxscript: pip install onnxscript\."):
        export(tmp_path, tmp_path / "onnx", onnx=True)
