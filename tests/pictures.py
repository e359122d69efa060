"""Images that numpy makes and a tiny model that reads them, as a user has them in folders."""

from pathlib import Path

import numpy as np
import torch
import transformers as t
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (40, 190, 60), "red": (210, 50, 40)}
SIDE = 32


def photograph(colour: str, seed: int, size: tuple[int, int] = (28, 36)) -> Image.Image:
    """Noise in which a colour can be seen."""
    noise = np.random.default_rng(seed).normal(0, 40, (*size, 3))
    return Image.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8))


def image_folder(folder: Path, **rows: int) -> Path:
    """Splits of class folders, so many images in each."""
    for number, (split, count) in enumerate(rows.items()):
        for row in range(count):
            colour = [*COLOURS][row % len(COLOURS)]
            place = folder / split / colour
            place.mkdir(parents=True, exist_ok=True)
            photograph(colour, 1000 * number + row).save(place / f"{row}.png")
    return folder


def tiny_vit(folder: Path, side: int = SIDE, layers: int = 2) -> Path:
    """A ViT with its image processor."""
    config = t.ViTConfig(
        hidden_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=96,
        image_size=side,
        patch_size=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        t.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    t.ViTImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)
    return folder
