"""Backbones: a frozen pretrained model with tokenizer and map of its sites. Skeletons: the same without weights.

Only encoders and decoders are loaded, without a head; of an encoder-decoder model the encoder, where transformers has a
class for it. A pooler is left out: the head pools by itself.
"""

import copy
import hashlib
import inspect
import logging
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import is_offline_mode
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from autopeft.backbone.find import find_sites
from autopeft.backbone.sites import Sites
from autopeft.errors import AutopeftError

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of an element -> the integers that its bits are read as."""


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
    """Tells two sets of weights apart, and is the same wherever they lie."""


def load_backbone(name: str) -> Backbone:
    """The backbone in a local folder or of a hub name, in fp32 on the CPU, frozen. Raises AutopeftError."""
    with _plainly(name) as where:
        config = AutoConfig.from_pretrained(where)
        model, info = _class_for(config).from_pretrained(
            where, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
        tokenizer = AutoTokenizer.from_pretrained(where)
    _require_whole(name, info)
    _require_usable(name, tokenizer)
    model = _without_pooler(model).requires_grad_(False)
    model.eval()  # type: ignore[no-untyped-call]
    model.config.pad_token_id = tokenizer.pad_token_id
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Backbone(name, model, find_sites(model), tokenizer, parameters, _fingerprint(model))


def load_skeleton(what: str | PretrainedConfig, dtype: torch.dtype = torch.float32) -> Skeleton:
    """The same model without weights, from a folder, a hub name, a `config.json` or a config. Raises AutopeftError."""
    name = what if isinstance(what, str) else type(what).__name__
    with _plainly(name) as where:
        config = AutoConfig.from_pretrained(where) if isinstance(what, str) else copy.deepcopy(what)
        with torch.device("meta"):
            model = _class_for(config)._from_config(config, dtype=dtype)
    model = _without_pooler(model).requires_grad_(False)
    model.eval()  # type: ignore[no-untyped-call]
    return Skeleton(name, model, find_sites(model))


def _require_whole(name: str, info: Mapping[str, Any]) -> None:
    for key, found, expected in info["mismatched_keys"]:
        shapes = f"{tuple(found)}, not {tuple(expected)}"
        raise AutopeftError(f"the weights of '{name}' do not fit its config.json: '{key}' has shape {shapes}.")
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:
        raise AutopeftError(
            f"the weights of '{name}' are incomplete: {len(missing)} tensors are missing, among them '{missing[0]}'."
        )


def _require_usable(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses the empty tokenizer that transformers makes where a folder has none; pads with the end token."""
    added = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    if len(tokenizer.get_vocab().keys() - added) < 2:
        raise AutopeftError(f"'{name}' has no tokenizer: save one beside the weights (`tokenizer.save_pretrained`).")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise AutopeftError(
                f"the tokenizer of '{name}' has neither a padding nor an end token; set one and save it again."
            )
        tokenizer.pad_token = tokenizer.eos_token


def _class_for(config: PretrainedConfig) -> Any:
    """The model class without a head; of an encoder-decoder the encoder's, whose own configuration does not tell."""
    kind: Any = transformers.models.auto.modeling_auto.MODEL_MAPPING.get(type(config), None)
    if isinstance(kind, tuple):
        kind = kind[0]
    if kind is None:
        raise AutopeftError(f"transformers has no plain model for the configuration {type(config).__name__}.")
    encoder = getattr(transformers, kind.__name__.replace("Model", "EncoderModel"), None)
    if encoder is None and getattr(config, "is_encoder_decoder", False):
        raise AutopeftError(
            f"{kind.__name__} is an encoder-decoder model whose encoder transformers does not offer alone."
        )
    return encoder or kind


def _without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """A pooler goes where the model can do without one."""
    optional = "add_pooling_layer" in inspect.signature(type(model).__init__).parameters
    if optional and getattr(model, "pooler", None) is not None:
        model.register_module("pooler", None)
    return model


def _fingerprint(model: PreTrainedModel) -> str:
    """Of the configuration, and of every tensor's name, shape and sum of bits (exact, so the same on every machine)."""
    digest = hashlib.sha256(f"{type(model).__name__} {model.config.to_json_string()}".encode())
    for name, tensor in model.state_dict().items():
        bits = tensor.contiguous().view(_BITS[tensor.element_size()]).sum(dtype=torch.int64)
        digest.update(f"{name} {tuple(tensor.shape)} {bits.item()}".encode())
    return digest.hexdigest()


@contextmanager
def quietly() -> Iterator[None]:
    """transformers shows neither progress nor warnings meanwhile."""
    verbosity, progress = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if progress:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _plainly(name: str) -> Iterator[str]:
    """Gives what transformers is to load, quietly; a sentence instead of a traceback where it leads nowhere."""
    path = Path(name).expanduser()
    if (path.is_absolute() or name.startswith(".") or name.count("/") > 1) and not path.exists():
        raise AutopeftError(
            f"there is no model folder '{name}'; give a folder that holds config.json and weights, or a hub name."
        )
    if not name or (path.is_dir() and not (path / "config.json").exists()):
        raise AutopeftError(f"'{name}' is no model folder: it holds no config.json.")
    try:
        with quietly():
            yield str(path) if path.exists() else name
    except AutopeftError:
        raise
    except Exception as error:
        raise AutopeftError(_why_not(name, path.exists(), error)) from error


def _why_not(name: str, local: bool, error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        error = ValueError("its weights file is damaged")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
    if local:
        return f"the model in '{name}' cannot be loaded: {reason}."
    offline = " HF_HUB_OFFLINE=1 is set: unset it to ask the hub." if is_offline_mode() else ""
    return f"'{name}' is neither a local folder nor a model that can be had from the hub: {reason}.{offline}"
