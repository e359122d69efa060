"""Backbones: a frozen pretrained model with its tokenizer and the map of its sites; or its skeleton, which holds no weights.

Only encoders and decoders are loaded, without a head; of an encoder-decoder model the encoder, where transformers has a class for it. A pooler
is left out: the head pools by itself.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from autopeft.backbone.find import find_sites
from autopeft.backbone.sites import Sites
from autopeft.errors import AutopeftError

_WEIGHTS = ("*.safetensors", "*.bin", "*.json")


@dataclass(frozen=True)
class Skeleton:
    """A backbone on the meta device: shapes and sites, no values."""

    name: str
    model: PreTrainedModel = field(repr=False)
    sites: Sites = field(repr=False)


@dataclass(frozen=True)
class Backbone(Skeleton):
    """A frozen pretrained model, in eval mode, with its tokenizer."""

    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    parameters: int
    """Distinct parameters."""
    fingerprint: str
    """Tells two sets of weights apart."""


def load_backbone(name: str) -> Backbone:
    """The backbone in a local folder or of a hub name, in fp32, frozen. Raises AutopeftError."""
    with _plainly(name):
        config = AutoConfig.from_pretrained(name)
        model, info = _class_for(config).from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(name)
    model = _without_pooler(model)
    missing = [key for key in info["missing_keys"] if "pooler" not in key]
    if missing:
        raise AutopeftError(f"the weights of '{name}' are incomplete: {len(missing)} tensors are missing, among them '{sorted(missing)[0]}'.")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise AutopeftError(f"the tokenizer of '{name}' has neither a padding nor an end token; set one and save it again.")
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    model.requires_grad_(False)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Backbone(name, model.eval(), find_sites(model), tokenizer, parameters, _fingerprint(name, model))


def load_skeleton(what: str | PretrainedConfig) -> Skeleton:
    """The same model without weights, from a folder, a hub name, a `config.json` or a config. Raises AutopeftError."""
    name = what if isinstance(what, str) else type(what).__name__
    with _plainly(name):
        config = AutoConfig.from_pretrained(what) if isinstance(what, str) else what
        with torch.device("meta"):
            model = _class_for(config)._from_config(config, dtype=torch.float32)
    model = _without_pooler(model).eval().requires_grad_(False)
    return Skeleton(name, model, find_sites(model))


def _class_for(config: PretrainedConfig) -> Any:
    """The model class without a head; for encoder-decoder configurations the encoder's."""
    kind = transformers.models.auto.modeling_auto.MODEL_MAPPING.get(type(config), None)
    if kind is None:
        raise AutopeftError(f"transformers has no plain model for the configuration {type(config).__name__}.")
    if not getattr(config, "is_encoder_decoder", False):
        return kind
    encoder = getattr(transformers, kind.__name__.replace("Model", "EncoderModel"), None)
    if encoder is None:
        raise AutopeftError(f"{kind.__name__} is an encoder-decoder model whose encoder transformers does not offer alone.")
    return encoder


def _without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def _fingerprint(name: str, model: PreTrainedModel) -> str:
    """Of the folder's files by name, size and first bytes; for a hub name of its revision."""
    digest = hashlib.sha256()
    folder = Path(name)
    if folder.is_dir():
        for file in sorted({file for pattern in _WEIGHTS for file in folder.glob(pattern)}):
            digest.update(f"{file.name} {file.stat().st_size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(1 << 20))
    else:
        digest.update(f"{name} {getattr(model.config, '_commit_hash', None)}".encode())
    return digest.hexdigest()


@contextmanager
def _plainly(name: str) -> Iterator[None]:
    """Quiet while loading, and a sentence instead of a traceback where the name leads nowhere."""
    verbosity = transformers_logging.get_verbosity()
    progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    except AutopeftError:
        raise
    except Exception as error:
        raise AutopeftError(_why_not(name, error)) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if progress:
            transformers_logging.enable_progress_bar()


def _why_not(name: str, error: Exception) -> str:
    path = Path(name)
    local = name.startswith((".", "/", "~")) or path.exists() or name.count("/") > 1
    if local and not path.exists():
        return f"there is no model folder '{name}'; give a folder that holds config.json and weights, or a hub name."
    if path.is_dir() and not (path / "config.json").exists():
        return f"'{name}' is no model folder: it holds no config.json."
    if path.exists():
        return f"the model in '{name}' cannot be loaded: {str(error).splitlines()[0]}"
    return f"'{name}' is neither a local folder nor a model that can be had from the hub: {str(error).splitlines()[0]}"
