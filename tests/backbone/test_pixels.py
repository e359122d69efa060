"""Images resized once and normalised by the batch, against what transformers' processors give, and random changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t
from PIL import Image

from autopeft.backbone.pixels import Pixels, augmented, normalised, pixels_of, resized
from autopeft.data.images import open_image
from autopeft.errors import AutopeftError

PHOTOGRAPHS = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10" / "validation"
DINOV2 = Path(__file__).parents[2].parent / "shared" / "models" / "dinov2-small"
SHAPES = [(40, 60, 3), (61, 33, 3), (20, 20, 3)]
PROCESSORS = {
    "bit": lambda: t.BitImageProcessorPil(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}),
    "vit": lambda: t.ViTImageProcessorPil(size={"height": 32, "width": 32}),
    "clip": lambda: t.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    "beit": lambda: t.BeitImageProcessorPil(size={"height": 24, "width": 32}),
    "neither rescaled nor normalised": lambda: t.ViTImageProcessorPil(
        size={"height": 32, "width": 32}, do_rescale=False, do_normalize=False
    ),
}


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", PROCESSORS)
def test_resized_and_normalised_is_what_the_processor_gives(name):
    processor = PROCESSORS[name]()
    facts = pixels_of("a model", processor)
    images = [Image.fromarray(noise(shape)) for shape in SHAPES]
    kept = np.stack([resized(image, processor) for image in images])
    assert (kept.dtype, kept.shape[1:]) == (np.uint8, facts.shape)
    theirs = processor(images, return_tensors="pt")["pixel_values"].float()
    step = facts.factor / min(facts.deviation)
    assert (normalised(torch.from_numpy(kept), facts) - theirs).abs().max() <= step


@pytest.mark.skipif(not (PHOTOGRAPHS.exists() and DINOV2.exists()), reason="the photographs are not here")
def test_photographs_come_to_dinov2_as_its_own_processor_makes_them():
    processor = t.AutoImageProcessor.from_pretrained(DINOV2, backend="pil")
    facts = pixels_of("dinov2", processor)
    assert facts == Pixels(112, 112, 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    files = sorted(PHOTOGRAPHS.glob("*/*"))[::30]
    images = [open_image(file, str(file)) for file in files]
    assert len(images) >= 10
    kept = torch.from_numpy(np.stack([resized(image, processor) for image in images]))
    theirs = processor(images, return_tensors="pt")["pixel_values"]
    assert (normalised(kept, facts) - theirs).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"size": {"shortest_edge": 32}, "do_center_crop": False}, "makes images of several sizes: let it crop them"),
        ({"size": {"height": 10**9, "width": 10**9}}, r"'size\.height' is 1000000000 pixels"),
        ({"size": {"height": -3, "width": 32}}, r"'size\.height' is -3 pixels"),
        ({"image_std": [0.0, 1.0, 1.0]}, "image_std and rescale_factor must be above 0"),
        ({"image_std": [float("nan")] * 3}, "are not three numbers, for red, green and blue"),
        ({"image_mean": [0.5]}, "is of no use: "),
        ({"rescale_factor": "a lot"}, "is of no use: "),
        ({"resample": 77}, "is of no use: "),
    ],
)
def test_a_processor_that_is_of_no_use_is_refused_with_the_reason(change, answer):
    with pytest.raises(AutopeftError, match=rf"^the image processor of 'a model' .*{answer}"):
        pixels_of("a model", t.ViTImageProcessorPil(**{"size": {"height": 32, "width": 32}, **change}))


def test_a_processor_that_does_something_else_too_is_refused():
    with pytest.raises(
        AutopeftError, match=r"EfficientNetImageProcessorPil.* does more than resize, crop, rescale and"
    ):
        pixels_of("a model", t.EfficientNetImageProcessorPil(size={"height": 32, "width": 32}))


def test_nothing_is_changed_and_nothing_drawn_where_no_change_is_wanted():
    pixels, generator = torch.from_numpy(noise((3, 8, 6, 3))), seeded()
    state = generator.get_state()
    assert augmented(pixels, flip=False, shift=0.0, generator=generator) is pixels
    assert torch.equal(generator.get_state(), state)


def test_about_half_of_the_images_are_mirrored_and_the_others_are_as_they_were():
    pixels = torch.from_numpy(noise((400, 4, 6, 3)))
    changed = augmented(pixels, flip=True, shift=0.0, generator=seeded())
    mirrored = [torch.equal(one, other.flip(1)) for one, other in zip(changed, pixels, strict=True)]
    same = [torch.equal(one, other) for one, other in zip(changed, pixels, strict=True)]
    assert all(one != other for one, other in zip(mirrored, same, strict=True))
    assert 160 < sum(mirrored) < 240


def test_images_move_by_whole_pixels_up_to_the_share_and_repeat_their_border():
    lines = torch.arange(16, dtype=torch.uint8)
    pixels = (lines[:, None] * 16 + lines)[None, :, :, None].expand(300, -1, -1, 3)
    changed = augmented(pixels, flip=False, shift=0.125, generator=seeded())
    moves = set()
    for image in changed[..., 0].long():
        down, right = int(image[8, 8]) // 16 - 8, int(image[8, 8]) % 16 - 8
        rows, columns = ((torch.arange(16) + each).clamp(0, 15) for each in (down, right))
        assert torch.equal(image, rows[:, None] * 16 + columns)
        moves.add((down, right))
    assert moves == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_one_seed_gives_one_batch():
    pixels = torch.from_numpy(noise((20, 8, 8, 3)))
    first, again, other = (augmented(pixels, flip=True, shift=0.2, generator=seeded(seed)) for seed in (1, 1, 2))
    assert first.dtype is torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
