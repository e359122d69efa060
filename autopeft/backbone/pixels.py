"""Images as a backbone reads them: resized once and kept as whole numbers, normalised batch by batch.

Of what an image processor does, resizing and cropping cost time and are done once (`resized`); what is kept is uint8.
The rest is a scale and an offset for each channel, which a batch gets where the model runs (`normalised`); in training
it may be mirrored and shifted before (`augmented`). A processor that does anything else is refused (`pixels_of`).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_LONGEST = 4096
"""Pixels of a side, at most, that a processor may ask for."""
_TRIED = ((48, 64), (80, 40))
"""Sizes of the images that a processor is tried with."""


@dataclass(frozen=True)
class Pixels:
    """What a model's image processor makes of every image: plain values, so that workers need no processor."""

    height: int
    width: int
    factor: float = 1 / 255
    """What the numbers from 0 to 255 are multiplied by first."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """What is then taken off, by channel."""
    deviation: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """What is then divided by, by channel."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image that is kept: height, width, channels."""
        return self.height, self.width, 3

    @classmethod
    def from_dict(cls, plain: Any) -> Self:
        """The same of plain values, which a stranger may have written. Raises ValueError."""
        if not isinstance(plain, Mapping) or plain.keys() != {each.name for each in fields(cls)}:
            raise ValueError(f"how images come to the model is expected, not {brief(plain)}")
        sides, factor = (plain["height"], plain["width"]), plain["factor"]
        if not all(type(side) is int and 0 < side <= _LONGEST for side in sides):
            raise ValueError(f"images of {brief(sides)} pixels cannot be read")
        try:
            mean, deviation = _of_channels(plain["mean"]), _of_channels(plain["deviation"])
            if not (math.isfinite(factor) and min(*deviation, factor) > 0):
                raise ValueError("a factor and deviations are above 0")
        except TypeError as error:
            raise ValueError(f"numbers are expected, not {brief(plain)}") from error
        return cls(*sides, float(factor), mean, deviation)


def resized(image: Image.Image | NDArray[np.uint8], processor: Any) -> NDArray[np.uint8]:
    """(height, width, channels): an image resized and cropped as `processor` does it, before any scaling.

    `image` is one of Pillow's in RGB, or an array (height, width, 3).
    """
    seen = image if isinstance(image, Image.Image) else Image.fromarray(image)
    made = processor(seen, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    return np.ascontiguousarray(np.moveaxis(np.asarray(made), 0, -1).round().clip(0, 255), dtype=np.uint8)


def normalised(pixels: Tensor, facts: Pixels) -> Tensor:
    """(rows, channels, height, width) as the model reads it, of (rows, height, width, channels) uint8."""
    mean, deviation = (torch.tensor(each, device=pixels.device) for each in (facts.mean, facts.deviation))
    values = (pixels.to(torch.float32) * facts.factor - mean) / deviation
    return values.permute(0, 3, 1, 2).contiguous()


def augmented(pixels: Tensor, *, flip: bool, shift: float, generator: torch.Generator | None = None) -> Tensor:
    """A batch (rows, height, width, channels), each image mirrored by chance and shifted by a random distance.

    `flip`: mirrored from left to right, with probability one half. `shift`: at most this share of a side, both ways; as
    random crops of padded images do it (He et al. 2015, arXiv:1512.03385, section 4.2: 4 of 32 pixels, 0.125), but with
    the pixels of the border repeated. `generator` is the CPU's; it is not used where nothing is by chance.
    """
    if not flip and shift <= 0:
        return pixels
    rows, height, width, _ = pixels.shape
    down, right = (_chosen(rows, side, shift, generator) for side in (height, width))
    if flip:
        mirrored = torch.rand(rows, generator=generator) < 0.5
        right = torch.where(mirrored[:, None], right.flip(1), right)
    row = torch.arange(rows)[:, None, None]
    index = (each.to(pixels.device) for each in (row, down[:, :, None], right[:, None, :]))
    return pixels[tuple(index)]


def pixels_of(name: str, processor: Any) -> Pixels:
    """What the image processor of the model `name` does, told by its settings and tried. Raises AutopeftError."""
    for key, value in _sides(processor):
        if not 0 < value <= _LONGEST:
            raise AutopeftError(f"the image processor of '{name}' is of no use: '{key}' is {brief(value)} pixels.")
    noise = np.random.default_rng(0)
    images = [noise.integers(0, 256, (*size, 3), dtype=np.uint8) for size in _TRIED]
    try:
        kept = [resized(image, processor) for image in images]
        rescales, normalises = (bool(getattr(processor, f"do_{what}", False)) for what in ("rescale", "normalize"))
        facts = Pixels(
            kept[0].shape[0],
            kept[0].shape[1],
            float(processor.rescale_factor) if rescales else 1.0,
            _of_channels(processor.image_mean if normalises else 0.0),
            _of_channels(processor.image_std if normalises else 1.0),
        )
        if min(*facts.deviation, facts.factor) <= 0:
            raise ValueError("image_std and rescale_factor must be above 0")
        own = [processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0] for image in images]
    except AutopeftError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise AutopeftError(f"the image processor of '{name}' is of no use: {brief(reason, 200)}.") from error
    if {each.shape for each in kept} != {facts.shape}:
        raise AutopeftError(
            f"the image processor of '{name}' makes images of several sizes: let it crop them (do_center_crop), or "
            "give it a size with height and width."
        )
    step = facts.factor / min(facts.deviation)
    for mine, theirs in zip(normalised(torch.from_numpy(np.stack(kept)), facts), own, strict=True):
        if not np.allclose(mine.numpy(), np.asarray(theirs), rtol=0, atol=1.001 * step):
            raise AutopeftError(
                f"the image processor of '{name}' ({type(processor).__name__}) does more than resize, crop, rescale "
                "and normalise."
            )
    return facts


def _chosen(rows: int, side: int, shift: float, generator: torch.Generator | None) -> Tensor:
    """(rows, side): which lines of an image stand where, moved by a distance of its own."""
    most = round(shift * side)
    lines = torch.arange(side).expand(rows, side)
    if most <= 0:
        return lines
    moved = torch.randint(-most, most + 1, (rows, 1), generator=generator)
    return (lines + moved).clamp(0, side - 1)


def _of_channels(value: Any) -> tuple[float, float, float]:
    values = [float(each) for each in (value if isinstance(value, list | tuple) else [value] * 3)]
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise ValueError(f"{values} are not three numbers, for red, green and blue")
    return values[0], values[1], values[2]


def _sides(processor: Any) -> Iterator[tuple[str, int]]:
    """The lengths that it asks for, before it is let do anything."""
    for name in ("size", "crop_size", "pad_size"):
        value = getattr(processor, name, None)
        for key, length in dict(value or {}).items() if not isinstance(value, int) else [(name, value)]:
            if isinstance(length, int):
                yield f"{name}.{key}" if key != name else name, length
