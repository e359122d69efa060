"""What a model's configuration claims, held against what there is, before time and memory go to it.

A configuration of a few bytes could ask for any number of layers, labels or values, and for program code of the hub.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PretrainedConfig

from autopeft.backbone.source import Source, weights_of
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_MOST = {
    re.compile(r"(?<!per_)(layers?|groups?|group_num)$"): 500,
    re.compile(r"experts$"): 2_000,
    re.compile(r"labels$"): 1_000_000,
}
"""The largest numbers under keys whose values are counted out one by one; real models stay far below."""
_PACKED = 16
"""So many values may lie in one element of a quantized weight."""
_OWN = ("eager", "sdpa")
"""How attention may be computed by a model's own wish: with nothing that must be had from the hub."""


def require_sane(name: str, plain: Any) -> None:
    """Raises AutopeftError for what a `config.json` holds if building the model would hardly end."""
    for key, value in _numbers(plain):
        for pattern, most in _MOST.items():
            if value > most and pattern.search(key):
                raise AutopeftError(
                    f"the model in '{name}' cannot be loaded: '{brief(key)}' in its config.json is {brief(value)}, "
                    f"more than {most:,}."
                )


def require_weights(source: Source, kind: Any, config: PretrainedConfig) -> None:
    """Raises AutopeftError where a local folder's weights can by no means fill the model of its configuration."""
    files = [Path(source.where, name) for name in weights_of(source)]
    if not files or any(file.suffix != ".safetensors" for file in files):
        return
    with torch.device("meta"):
        model = kind._from_config(copy.deepcopy(config))
    wanted = sum(parameter.numel() for parameter in model.parameters())
    held = sum(_elements(file) for file in files)
    if wanted > _PACKED * held:
        raise AutopeftError(
            f"the weights of '{source.name}' do not fit its config.json: they hold {held:,} values, and the model "
            f"wants {wanted:,}."
        )


def without_kernels(config: PretrainedConfig) -> PretrainedConfig:
    """transformers chooses by itself how to compute what a configuration wants computed by code of the hub."""
    for name in ("_attn_implementation", "_experts_implementation"):
        if getattr(config, name, None) not in (None, *_OWN):
            setattr(config, name, None)
    for key in config.sub_configs:
        if isinstance(part := getattr(config, key, None), PretrainedConfig):
            without_kernels(part)
    return config


def _numbers(plain: Any) -> Iterator[tuple[str, int]]:
    if not isinstance(plain, dict):
        return
    for key, value in plain.items():
        if isinstance(value, int):
            yield key, value
        yield from _numbers(value)


def _elements(file: Path) -> int:
    """By its header."""
    with safe_open(file, framework="pt") as opened:
        return sum(torch.Size(opened.get_slice(name).get_shape()).numel() for name in opened.keys())  # noqa: SIM118
