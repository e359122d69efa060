"""Image classification: images into two or more classes.

An image is resized once and kept as bytes; batches are normalised where the model runs. Heads pool the states of all
patches (mean), or take the first, which is the class token where a model has one; the last is but a patch.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from PIL import Image

from autopeft.backbone.load import Backbone, Skeleton
from autopeft.backbone.pixels import Pixels, normalised, resized
from autopeft.data.columns import CATEGORY, IMAGE, IMAGES, LABELS, TEXTS, Columns, Role, guess_columns
from autopeft.data.images import Picture, are_images, is_image, picture
from autopeft.data.rows import Rows, require_columns
from autopeft.data.store import LABELS as TARGETS
from autopeft.data.store import PIXELS, Column
from autopeft.errors import AutopeftError
from autopeft.space.parameters import Parameter
from autopeft.tasks.heads import Batch
from autopeft.tasks.metrics import ACCURACY, F1_MACRO
from autopeft.tasks.one_class import OneClass
from autopeft.tasks.texts import ROLE as TEXT

_SAMPLES = ((48, 64), (64, 48), (40, 40))
"""Sizes of made-up images."""
_CALLED = IMAGES[:3]
"""What a column of images is called, and hardly one of other things; a file or a path may be any."""


@dataclass(frozen=True)
class ImageClassification(OneClass):
    """One of several classes for each image."""

    classes: tuple[str, ...]
    """In the order of the outputs."""
    pixels: Pixels = Pixels(224, 224)  # noqa: RUF009 - frozen
    """How images come to the model; the usual, until it is known which."""

    name: ClassVar = "image-classification"
    roles: ClassVar = {"label": Role(CATEGORY, LABELS), "image": Role(IMAGE, IMAGES)}
    metrics: ClassVar = (ACCURACY, F1_MACRO)
    noun: ClassVar = "image"
    reads: ClassVar = "pixel_values"
    settings: ClassVar = {
        **OneClass.settings,
        "pooling": Parameter("first", ("first", "mean")),
        "flip": Parameter(True, (False, True)),
        "shift": Parameter(0.0, (0.0, 0.0625, 0.125)),
    }
    pipeline: ClassVar = name
    auto_class: ClassVar = "AutoModelForImageClassification"

    @classmethod
    def fits(cls, frame: pd.DataFrame, given: Columns) -> bool:
        """Whether images stand beside labels, and no text that may be meant as well; where none of them is there, also
        none that is found by its content.
        """
        if "image" not in given and any(str(name).lower() in TEXTS for name in frame.columns):
            return False
        try:
            (image,) = guess_columns(frame, cls.roles, given)["image"]
        except AutopeftError:
            return False
        cells = frame[image]
        if "image" in given or any(map(is_image, cells)):
            return "image" in given or are_images(cells)
        if not (are_images(cells) or (image.lower() in _CALLED and _are_names(cells))):
            return False
        try:
            text = guess_columns(frame, {"label": cls.roles["label"], "text": TEXT}, given)["text"]
        except AutopeftError:
            return True
        return text == (image,)

    @classmethod
    def sized(cls, labels: int) -> Self:
        return cls(tuple(map(str, range(labels))))

    def on(self, backbone: Skeleton) -> Self:
        super().on(backbone)
        assert backbone.pixels is not None, "it reads images"
        return replace(self, pixels=backbone.pixels)

    @property
    def asks(self) -> tuple[str, str]:
        return '"photo.jpg"', '"photo.jpg"'

    @classmethod
    def understand(cls, frame: pd.DataFrame, columns: Columns) -> tuple[Self, Sequence[str]]:
        classes, notes = cls.named(frame, columns)
        return cls(classes), notes

    def rows(self, frame: pd.DataFrame, columns: Columns, split: str) -> Rows:
        require_columns(frame, columns, split)
        targets = self.targets(frame, columns, split)
        cells = enumerate(frame[columns["image"][0]], 1)
        return Rows(tuple(picture(cell, f"row {row} of the {split} split") for row, cell in cells), Column(targets))

    def complete(self, frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
        return frame[self.known(frame, columns) & frame[columns["image"][0]].map(_is_there)]

    def encoded(self, inputs: Sequence[Picture], backbone: Backbone, max_length: int) -> Mapping[str, Column]:  # noqa: ARG002
        kept = np.empty((len(inputs), *self.pixels.shape), dtype=np.uint8)
        for row, each in enumerate(inputs):
            kept[row] = resized(each.opened(), backbone.processor)
        return {PIXELS: Column(kept)}

    def key(self, backbone: Backbone, max_length: int) -> str:  # noqa: ARG002
        said: Any = backbone.processor
        return hashlib.sha256(json.dumps(said.to_dict(), sort_keys=True, default=str).encode()).hexdigest()

    def shapes(self, length: int) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:  # noqa: ARG002
        return {PIXELS: (torch.uint8, self.pixels.shape), TARGETS: (torch.long, ())}

    def inputs(self, batch: Batch) -> Batch:
        return {self.reads: normalised(batch[PIXELS], self.pixels)}

    def samples(self, backbone: Backbone) -> Sequence[Picture]:  # noqa: ARG002
        noise = np.random.default_rng(0)
        images = (Image.fromarray(noise.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in _SAMPLES)
        return [Picture(image, "a made-up image") for image in images]

    def asked(self, given: Any) -> tuple[Sequence[Picture], bool]:
        """An image is a path, bytes, or one of Pillow's; many are a list, an array or a column of a table."""
        many = given.tolist() if isinstance(given, np.ndarray | pd.Series) else given
        if isinstance(many, list | tuple | Iterator):
            return [Picture(each, f"row {number}") for number, each in enumerate(many)], False
        return [Picture(given, "what was given")], True


def _are_names(cells: "pd.Series[Any]") -> bool:
    """Whether most are single words, and no texts that describe an image."""
    return 2 * sum(isinstance(cell, str) and len(cell.split()) == 1 for cell in cells) > len(cells)


def _is_there(cell: Any) -> bool:
    try:
        return bool(picture(cell, "a row").digest)
    except AutopeftError:
        return False
