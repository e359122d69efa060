"""Image backbones loaded with their processor, and the sentences that answer where that is not possible."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers as t
from PIL import Image
from transformers.utils import is_torchvision_available

from autopeft.backbone.load import load_backbone, load_skeleton, quietly
from autopeft.backbone.pixels import normalised, resized
from autopeft.errors import AutopeftError
from tests.backbone.architectures import IMAGES, inputs, new
from tests.saved import saved

DINOV2 = Path(__file__).parents[2].parent / "shared" / "models" / "dinov2-small"
SETTINGS = "preprocessor_config.json"
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def saved_images(folder, name="vit", model=None):
    saved(folder, model=model or new(name), tokenizer=False)
    t.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_images(tmp_path_factory.mktemp("vit") / "model")


@pytest.fixture
def spoiled(folder, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(folder, tmp_path / "spoiled"))


def answer_to(name, **how):
    with pytest.raises(AutopeftError) as caught:
        load_backbone(str(name), **how)
    answer = str(caught.value)
    assert "\n" not in answer
    assert answer.endswith((".", ")"))
    return answer


def amend(folder, **values):
    file = folder / SETTINGS
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_backbone_comes_with_its_processor_and_what_that_does(name, tmp_path):
    backbone = load_backbone(str(saved_images(tmp_path / "model", name)))
    assert isinstance(backbone.processor, t.ViTImageProcessorPil)
    assert backbone.pixels.shape == (32, 32, 3)
    assert (backbone.positions, backbone.vocabulary) == (None, None)
    with torch.no_grad():
        assert torch.equal(backbone.model(**inputs(name))[0], new(name)(**inputs(name))[0])
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_a_text_backbone_has_a_tokenizer_and_no_pixels(tmp_path):
    backbone = load_backbone(str(saved(tmp_path / "model")))
    assert backbone.processor is backbone.tokenizer
    assert backbone.pixels is None


def test_who_wants_to_give_texts_to_an_image_backbone_is_told(folder):
    backbone = load_backbone(str(folder))
    with pytest.raises(AutopeftError, match=r"reads images, not texts: give a model of texts\."):
        _ = backbone.tokenizer


def test_a_checkpoint_with_an_image_head_gives_its_backbone(tmp_path):
    with quietly():
        headed = t.AutoModelForImageClassification.from_config(IMAGES["vit"]()).eval()
    backbone = load_backbone(str(saved_images(tmp_path / "model", model=headed)))
    with torch.no_grad():
        assert torch.equal(backbone.model(**inputs("vit"))[0], headed.base_model(**inputs("vit"))[0])


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_of_a_model_of_texts_and_images_the_tower_for_images_is_loaded_without_its_pooling_head(kind, tmp_path):
    words = {"vocab_size": 96, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes = {name: each for name, each in IMAGES["vit"]().to_dict().items() if name in SIZES}
    seeing = {**sizes, "image_size": 32, "patch_size": 8}
    config = getattr(t, f"{kind}Config")(text_config={**words, **sizes}, vision_config=seeing)
    with quietly():
        both = getattr(t, f"{kind}Model")(config).eval()
    backbone = load_backbone(str(saved_images(tmp_path / "model", model=both)))
    assert type(backbone.model) is getattr(t, f"{kind}VisionModel")
    assert getattr(backbone.model, "head", None) is None
    with torch.no_grad():
        given = inputs("vit")
        assert torch.equal(backbone.model(**given)[0], both.vision_model(**given)[0])
    assert load_skeleton(str(tmp_path / "model")).sites == backbone.sites == load_skeleton(config).sites


def test_a_folder_without_an_image_processor(spoiled):
    (spoiled / SETTINGS).unlink()
    assert answer_to(spoiled) == (
        f"'{spoiled}' has no image processor ({SETTINGS}): save one beside the weights "
        "(`image_processor.save_pretrained`)."
    )


@pytest.mark.parametrize("text", ["{", "", "[]", "\x00", '"a"', "[" * 100_000])
def test_settings_of_a_processor_that_are_damaged(spoiled, text):
    (spoiled / SETTINGS).write_text(text)
    assert answer_to(spoiled).startswith(f"the image processor of '{spoiled}' cannot be loaded: ")


@pytest.mark.parametrize(
    "kind",
    ["AutoModel", "AutoImageProcessor", "BertTokenizer", "ViTModel", "pipeline", 7, ["x"]],
)
def test_a_type_of_processor_that_is_none(spoiled, kind):
    amend(spoiled, image_processor_type=kind)
    assert answer_to(spoiled).startswith(f"the image processor of '{spoiled}' cannot be loaded: ")


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is here")
def test_a_processor_that_needs_torchvision_is_answered_with_one_that_does_not(spoiled):
    amend(spoiled, image_processor_type="DINOv3ViTImageProcessorFast")
    assert "it needs torchvision; install that, or save one beside the weights" in answer_to(spoiled)


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"size": {"height": 16, "width": 16}}, "makes images of 16 x 16 pixels, which ViTModel does not read: "),
        ({"size": {"shortest_edge": 32}}, "makes images of several sizes"),
        ({"size": {"height": 2**31, "width": 2**31}}, "is 2147483648 pixels"),
        ({"size": "large"}, "the image processor of "),
        ({"image_std": [0, 0, 0]}, "must be above 0"),
        ({"image_mean": None}, "the image processor of "),
    ],
)
def test_settings_of_a_processor_that_do_not_fit(spoiled, change, answer):
    amend(spoiled, **change)
    assert answer in answer_to(spoiled)


def test_code_beside_a_model_is_not_run_for_its_processor(spoiled, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    (spoiled / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Evil: pass\n")
    amend(spoiled, image_processor_type="Evil", auto_map={"AutoImageProcessor": "evil.Evil"})
    assert "its type 'Evil' is no image processor of transformers" in answer_to(spoiled)
    for kind in (None, "EvilImageProcessor", "ViTImageProcessor"):
        amend(spoiled, image_processor_type=kind)
        assert isinstance(load_backbone(str(spoiled)).processor, t.ViTImageProcessorPil)
    assert not (tmp_path / "ran").exists()


def test_images_of_one_channel_are_refused(tmp_path):
    config = t.ViTConfig(**{**IMAGES["vit"]().to_dict(), "num_channels": 1})
    with quietly():
        folder = saved_images(tmp_path / "model", model=t.ViTModel(config))
    assert answer_to(folder).endswith("reads images of other channels (num_channels: 1) than red, green and blue.")


def test_a_model_that_hides_patches_by_chance_is_refused(tmp_path):
    with quietly():
        model = t.ViTMAEModel(t.ViTMAEConfig(**{**IMAGES["vit"]().to_dict(), "model_type": "vit_mae"}))
    answer = answer_to(saved_images(tmp_path / "model", model=model))
    assert "gives other states every time that it reads an image: ViTMAEModel hides parts of it by chance" in answer


@pytest.mark.skipif(not DINOV2.exists(), reason="DINOv2 is not here")
def test_dinov2_reads_smaller_images_than_its_configuration_says():
    backbone = load_backbone(str(DINOV2))
    assert (backbone.model.config.image_size, backbone.pixels.height) == (518, 112)
    assert (backbone.sites.width, len(backbone.sites.layers), backbone.parameters) == (384, 12, 22_056_576)
    image = resized(Image.new("RGB", (32, 32), (200, 30, 30)), backbone.processor)
    with torch.no_grad():
        values = normalised(torch.from_numpy(image)[None], backbone.pixels)
        assert backbone.model(pixel_values=values)[0].shape == (1, 65, 384)
