"""What a fingerprint tells apart, and what it does not."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers as t
from safetensors.torch import load_file, save_file

from autopeft.backbone.fingerprint import fingerprint
from autopeft.backbone.load import load_backbone, quietly
from tests.backbone.architectures import ARCHITECTURES, new
from tests.saved import saved
from tests.tiny import tiny

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("bert") / "model")


@pytest.fixture
def other(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "other"))


def of(folder):
    return load_backbone(str(folder)).fingerprint


def test_another_place_or_format_of_the_same_weights_is_the_same(folder, other):
    assert of(other) == of(folder)
    torch.save(load_file(other / WEIGHTS), other / "pytorch_model.bin")
    (other / WEIGHTS).unlink()
    assert of(other) == of(folder)


def test_a_single_value_tells_weights_apart(folder, other):
    weights = load_file(other / WEIGHTS)
    weights["encoder.layer.1.output.dense.bias"][3] += 1e-3
    save_file(weights, other / WEIGHTS, {"format": "pt"})
    assert of(other) != of(folder)


def test_the_same_values_in_another_order_are_other_weights(folder, other):
    weights = load_file(other / WEIGHTS)
    weights["encoder.layer.1.output.dense.bias"] = weights["encoder.layer.1.output.dense.bias"].flip(0)
    save_file(weights, other / WEIGHTS, {"format": "pt"})
    assert of(other) != of(folder)


def test_a_field_of_the_configuration_that_changes_answers_tells_backbones_apart(folder, other):
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    assert of(other) != of(folder)


def test_what_a_configuration_says_of_origin_and_use_tells_nothing(folder, other):
    config = json.loads((other / "config.json").read_text())
    of_others = {
        "transformers_version": "4.9.0",
        "_name_or_path": "/home/somebody/bert",
        "architectures": ["BertForMaskedLM"],
        "dtype": "bfloat16",
        "use_cache": False,
        "id2label": {"0": "no", "1": "yes", "2": "who knows"},
    }
    (other / "config.json").write_text(json.dumps({**config, **of_others}))
    assert of(other) == of(folder)


def test_a_field_that_a_newer_transformers_adds_tells_nothing():
    class Newer(t.BertConfig):
        novelty: str | None = None
        fashion: float = 0.5

    model = tiny("bert")
    known = fingerprint(model)
    model.config = Newer(**model.config.to_dict())
    assert {"novelty", "fashion"} <= model.config.to_dict().keys()
    assert fingerprint(model) == known


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_that_is_saved_and_loaded_again_is_the_same(tmp_path, architecture):
    with quietly():
        model = new(architecture)
        model.save_pretrained(tmp_path)
        assert fingerprint(type(model).from_pretrained(tmp_path)) == fingerprint(model)
