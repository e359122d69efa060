"""A tiny BERT's forward pass written out, in the notation of the papers, with places where a method may come in.

h: a layer's input; o, f: outputs of the sub-layers before residual and norm; h1: input of the feed-forward.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear
from transformers import BertModel

from autopeft.methods.attached import Attached


def disturbed(attached: Attached, seed: int = 3) -> Attached:
    """Moves trained tensors off their start, where many methods do nothing and formulas cannot be told apart."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return attached


def _same(_number: int, x: Tensor, *_others: Any) -> Tensor:
    return x


def _add_and_norm(_number: int, f: Tensor, h1: Tensor, norm: nn.Module) -> Tensor:
    states: Tensor = norm(f + h1)
    return states


@dataclass(frozen=True)
class Changes:
    """What a method does; each is called with the layer's number and the tensors named."""

    key: Callable[..., Tensor] = _same
    """k"""
    value: Callable[..., Tensor] = _same
    """v"""
    attention: Callable[..., Tensor] = _same
    """o, h"""
    inner: Callable[..., Tensor] = _same
    """g: between activation and down-projection"""
    feed_forward: Callable[..., Tensor] = _same
    """f, h1"""
    end: Callable[..., Tensor] = _add_and_norm
    """f, h1 and the norm"""


def bert_by_hand(model: BertModel, inputs: dict[str, Tensor], changes: Changes | None = None) -> Tensor:
    """(batch, length, width) last states, in eval mode."""
    changes = changes or Changes()
    heads = model.config.num_attention_heads
    mask = inputs["attention_mask"][:, None, None, :].bool()
    h = model.embeddings(inputs["input_ids"])
    for number, layer in enumerate(model.encoder.layer):
        own = layer.attention.self
        q = _dense(own.query, h)
        k = changes.key(number, _dense(own.key, h))
        v = changes.value(number, _dense(own.value, h))
        q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        a = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v
        o = changes.attention(number, _dense(layer.attention.output.dense, a.transpose(1, 2).flatten(2)), h)
        h1 = layer.attention.output.LayerNorm(o + h)
        g = changes.inner(number, gelu(_dense(layer.intermediate.dense, h1)))
        f = changes.feed_forward(number, _dense(layer.output.dense, g), h1)
        h = changes.end(number, f, h1, layer.output.LayerNorm)
    return h


def _dense(module: nn.Module, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias)
