"""What peft's tuners compute of weights to begin with, where there are no weights: what has the same shape.

On a skeleton (the meta device) only shapes are asked for. Most of peft can be attached there as it is; these few look
at values, and at the width of real models take minutes for it: AdaMSS groups the rows of every weight, BOFT writes
permutations entry by entry, SHiRA draws from all entries of a weight, FRoD reads a size from a tensor in every pass.
They are asked here first; weights that have values go on to peft itself, so that threads that train are not touched.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from peft.tuners.adamss import layer as adamss
from peft.tuners.boft import layer as boft
from peft.tuners.frod.model import FrodModel
from peft.tuners.shira import config as shira
from torch import Tensor

from autopeft.backbone.fakes import Valueless

Attached = TypeVar("Attached")


def without_values(attach: Callable[[], Attached], values: AbstractContextManager[None]) -> Attached:
    """Attaches to a model without values; where that needs some nevertheless, with `values`, which takes long."""
    ways: tuple[Callable[[], AbstractContextManager[Any]], ...] = (nullcontext, Valueless)
    for as_if in ways:
        try:
            with as_if():
                return attach()
        except Exception as error:
            if "meta" not in str(error).lower():
                raise
    with values:
        return attach()


def _grouped(rows: Tensor, groups: int, *_: Any) -> tuple[Tensor, int]:
    """As many groups as asked for, of equal sizes: what is trained of them depends on their number."""
    groups = min(groups, len(rows))
    return torch.arange(len(rows), device="cpu") % groups, groups


def _order(layer: Any, entries: int, blocks: int, size: int = 3, factors: int = 1) -> Tensor:
    if factors and blocks * size * 2 > entries:
        raise ValueError("Invalid number of blocks!")
    return _weight(layer).new_empty(entries, dtype=torch.long)


def _permutation(_: Any, indices: Tensor) -> Tensor:
    return indices.new_empty((len(indices), len(indices)), dtype=torch.get_default_dtype())


def _mask(layer: Any, rank: int, *_: Any, **__: Any) -> Tensor:
    """The first entries, as many as would be drawn."""
    rows, columns = layer.weight.shape
    mask = torch.zeros(rows * columns, dtype=torch.bool, device="cpu")
    mask[: rank * (rows + columns)] = True
    return mask.view(rows, columns)


def _weight(layer: Any) -> Tensor:
    weight: Tensor = layer.get_base_layer().weight
    return weight


def _with_sizes(prepare: Callable[..., None]) -> Callable[..., None]:
    """Lets the sizes that FRoD keeps in tensors have values, always."""

    @functools.wraps(prepare)
    def prepared(model: Any, *args: Any) -> None:
        prepare(model, *args)
        for category, sizes in model.frod_s_size.items():
            for adapter in sizes:
                if sizes[adapter].is_meta:
                    sizes[adapter] = torch.tensor(model.frod_V[category][adapter].shape, device="cpu")

    return prepared


def _asked_first(holder: Any, name: str, looks_at: Callable[..., Tensor], twin: Callable[..., Any]) -> None:
    """Puts a twin before a function of peft's, for tensors without values."""
    own = getattr(holder, name)

    @functools.wraps(own)
    def either(*args: Any, **kwargs: Any) -> Any:
        return (twin if looks_at(*args).is_meta else own)(*args, **kwargs)

    setattr(holder, name, either)


_asked_first(adamss, "clustering_Z", lambda rows, *_: rows, _grouped)
_asked_first(boft.BOFTLayer, "block_butterfly_perm", lambda layer, *_: _weight(layer), _order)
_asked_first(boft.BOFTLayer, "perm2mat", lambda _, indices: indices, _permutation)
_asked_first(shira, "random_mask", lambda layer, *_: layer.weight, _mask)
FrodModel._init_frod_projections = _with_sizes(FrodModel._init_frod_projections)  # type: ignore[method-assign]
