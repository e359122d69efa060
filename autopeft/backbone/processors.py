"""Processors: what makes tensors of raw values for a model, a tokenizer or an image processor (Pillow's).

They come from where the model lies. What is there decides nothing but numbers and names of transformers' own classes:
code runs only where that is trusted.
"""

import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor

from autopeft.backbone.pixels import Pixels
from autopeft.backbone.source import Source
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

Processor = PreTrainedTokenizerBase | BaseImageProcessor
_FILES = ("preprocessor_config.json", "processor_config.json")
"""Where transformers looks for an image processor."""
_SHOWN = 200
"""Characters of a reason that is not ours."""
_KINDS = re.compile(r"(?!Auto)\w+(ImageProcessor(Fast)?|FeatureExtractor)")
"""What a class of transformers that reads images may be called; it would load any other of its classes as readily."""


def load_tokenizer(source: Source, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Refuses the empty tokenizer that transformers makes where a folder has none; pads with the end token."""
    name = source.name
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        source.where, revision=source.revision, trust_remote_code=trust_remote_code
    )
    added = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    if len(tokenizer.get_vocab().keys() - added) < 2:
        raise AutopeftError(f"'{name}' has no tokenizer: save one beside the weights (`tokenizer.save_pretrained`).")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise AutopeftError(
                f"the tokenizer of '{name}' has neither a padding nor an end token; set one and save it again."
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_image_processor(source: Source, config: PretrainedConfig, trust_remote_code: bool) -> BaseImageProcessor:
    """The image processor that lies beside a model, as Pillow does its work. Raises AutopeftError."""
    name = source.name
    if source.local and not any(Path(source.where, file).is_file() for file in _FILES):
        raise AutopeftError(
            f"'{name}' has no image processor ({_FILES[0]}): save one beside the weights "
            "(`image_processor.save_pretrained`)."
        )
    try:
        plain, _ = BaseImageProcessor.get_image_processor_dict(source.where, revision=source.revision)
        kind = plain.get("image_processor_type") or plain.get("feature_extractor_type")
    except Exception as error:
        raise AutopeftError(_unreadable(name, error)) from error
    kind = kind or getattr(config, "image_processor_type", None)
    if kind is not None and not trust_remote_code and not _KINDS.fullmatch(str(kind)):
        raise AutopeftError(_unreadable(name, f"its type {brief(kind)} is no image processor of transformers"))
    try:
        processor: Any = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            source.where, revision=source.revision, trust_remote_code=trust_remote_code, config=config, backend="pil"
        )
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise
        raise AutopeftError(_unreadable(name, error)) from error
    return processor  # type: ignore[no-any-return]


def require_fitting(name: str, model: PreTrainedModel, pixels: Pixels) -> None:
    """Raises AutopeftError where the model cannot read images as its processor makes them, or reads them by chance."""
    channels = getattr(model.config, "num_channels", 3)
    if channels != 3:
        raise AutopeftError(
            f"'{name}' reads images of other channels (num_channels: {channels}) than red, green and blue."
        )
    image = torch.rand((1, 3, pixels.height, pixels.width), generator=torch.Generator().manual_seed(0))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            one, other = (model(pixel_values=image)[0] for _ in range(2))
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise AutopeftError(
            f"the image processor of '{name}' makes images of {pixels.height} x {pixels.width} pixels, which "
            f"{type(model).__name__} does not read: {brief(reason, _SHOWN)}."
        ) from error
    if not torch.equal(one, other):
        raise AutopeftError(
            f"'{name}' gives other states every time that it reads an image: {type(model).__name__} hides parts of it "
            "by chance, as its pretraining did. Give a model of the same weights that reads images whole."
        )


def _unreadable(name: str, why: object) -> str:
    reason = (" ".join(str(why).split()) or type(why).__name__).rstrip(" .")
    if "torchvision" in reason.lower():
        reason = (
            "it needs torchvision; install that, or save one beside the weights that does with Pillow, such as "
            "ViTImageProcessor, of the same size, image_mean and image_std"
        )
    elif len(reason) > _SHOWN:
        reason = brief(reason, _SHOWN)
    return f"the image processor of '{name}' cannot be loaded: {reason}."
