"""A fingerprint of a backbone: of what it computes, whatever folder, machine or version of transformers it comes from.

It covers the architecture, those fields of the configuration that are not as its class has them by default, and every
tensor's bits in their order, as fp32 where they are held in half of it. A version of transformers that calls tensors
otherwise gives another one.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from autopeft.backbone.held import HALF

_ASIDE = frozenset(
    (
        *("_name_or_path", "_commit_hash", "transformers_version", "architectures", "auto_map", "dtype", "torch_dtype"),
        *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params"),
        *("use_cache", "output_attentions", "output_hidden_states", "return_dict", "chunk_size_feed_forward"),
        *("tokenizer_class", "tie_word_embeddings", "bos_token_id", "eos_token_id", "sep_token_id"),
    )
)
"""Fields of a configuration that say where it comes from, or what it is used for, and change no state."""
_THREADS = 4
"""Hashing lets other threads run."""
_PIECE = 2**15
"""Weights that are widened at once: of much larger pieces malloc would keep some for each thread."""


def fingerprint(model: PreTrainedModel, beside: nn.Module | None = None) -> str:
    """64 hexadecimal digits, also of what is used `beside` the model and has weights of its own. A billion weights in
    fp32 take some seconds on one core.
    """
    config = json.dumps(_telling(model.config), sort_keys=True, default=str)
    digest = hashlib.sha256(f"{type(model).__name__} {config}".encode())
    tensors = model.state_dict()
    held = {each.data_ptr() for each in tensors.values()}
    more = beside.state_dict() if beside is not None else {}
    tensors = {**tensors, **{f"beside {name}": each for name, each in more.items() if each.data_ptr() not in held}}
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, bits in zip(tensors, pool.map(_bits, tensors.values()), strict=True):
            digest.update(f"{name} {tuple(tensors[name].shape)} ".encode() + bits)
    return digest.hexdigest()


def _bits(tensor: Tensor) -> bytes:
    """A piece after the other, so that little is held twice."""
    digest = hashlib.sha256()
    for piece in tensor.detach().reshape(-1).split(_PIECE):  # type: ignore[no-untyped-call]
        exact = piece.float() if piece.dtype in HALF else piece
        bits: Any = exact.cpu().contiguous().view(torch.uint8).numpy()
        digest.update(bits)
    return digest.digest()


def _telling(config: PretrainedConfig) -> Mapping[str, Any]:
    """The fields that tell this configuration from others of its class: one that is new in transformers does not."""
    usual, fields = _without_aside(_defaults(config)), _without_aside(config.to_dict())
    return {name: value for name, value in fields.items() if value != usual.get(name)}


def _defaults(config: PretrainedConfig) -> Mapping[str, Any]:
    """Of the configuration's class; nothing where it cannot be had without arguments."""
    try:
        defaults: Mapping[str, Any] = type(config)().to_dict()
    except Exception:
        return {}
    return defaults


def _without_aside(value: Any) -> Any:
    """Nested configurations have such fields too."""
    if isinstance(value, dict):
        return {str(name): _without_aside(inner) for name, inner in value.items() if name not in _ASIDE}
    return value
