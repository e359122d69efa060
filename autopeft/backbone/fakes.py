"""What torch's fake tensors cannot do by themselves, and skeletons need."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel, pytorch_utils

from autopeft.backbone.inputs import is_crossed


class GroupedProducts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Products of a mixture's experts in every precision: real tensors have them, of fake ones only those in bf16.

    Meanwhile transformers keeps no tensor for later passes, as it does not where models are compiled: DINOv3 would take
    the fake positions of patches for real ones.
    """

    def __enter__(self) -> Self:
        self._before = vars(pytorch_utils)["is_torchdynamo_compiling"]
        vars(pytorch_utils)["is_torchdynamo_compiling"] = lambda: True
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        vars(pytorch_utils)["is_torchdynamo_compiling"] = self._before
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._grouped_mm.default:
            one, other, offsets = (*args, kwargs.get("offs"))[:3]
            return one.new_empty(grouped_shape(one, other, offsets), dtype=kwargs.get("out_dtype") or one.dtype)
        return func(*args, **kwargs)


@contextmanager
def no_mask_of_ones(model: PreTrainedModel) -> Iterator[None]:
    """A decoder beside an encoder (BART, Marian) that gets no mask makes one of ones, which attention leaves out as
    it sees its values. Where it is compiled, it makes none.
    """
    home = vars(sys.modules[type(model).__module__])
    if not is_crossed(model) or "is_torchdynamo_compiling" not in home:
        yield
        return
    before = home["is_torchdynamo_compiling"]
    home["is_torchdynamo_compiling"] = lambda: True
    try:
        yield
    finally:
        home["is_torchdynamo_compiling"] = before


def grouped_shape(one: Tensor, other: Tensor, offsets: Tensor | None) -> Sequence[int]:
    """Of the product of groups: rows or columns of a matrix are theirs, or each has a matrix of its own."""
    if one.ndim == 2 and other.ndim == 2:
        assert offsets is not None
        return len(offsets), one.shape[0], other.shape[1]
    if one.ndim == 3 and other.ndim == 3:
        return one.shape[0], one.shape[1], other.shape[2]
    return one.shape[-2], other.shape[-1]


def grouped_flops(one: Tensor, other: Tensor, *_: Any, **__: Any) -> int:
    """Floating-point operations: a row of one matrix meets the columns of its group only."""
    groups = one.shape[0] if one.ndim == 3 and other.ndim == 3 else 1
    return 2 * groups * one.shape[-2] * one.shape[-1] * other.shape[-1]


class EverythingPicked(GroupedProducts):  # type: ignore[no-untyped-call]
    """Lets a mask that picks entries pick them all: without values nobody knows which, and these are the most; of
    masks of a shape that is among the `most`, so many.

    A sparse mask picks as many as it has, and a sparse tensor without duplicates keeps as many; fake tensors take both
    for none.
    """

    def __init__(self, most: Mapping[tuple[int, ...], int] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._most = most or {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.sparse_mask.default:
            picked, mask = args
            values = mask._values().new_zeros(mask._nnz(), dtype=picked.dtype)
            return torch.sparse_coo_tensor(mask._indices(), values, mask.shape, check_invariants=False)
        if func is torch.ops.aten._coalesce.default:
            (loose,) = args
            return torch.sparse_coo_tensor(
                loose._indices(), loose._values(), loose.shape, check_invariants=False, is_coalesced=True
            )
        if func is torch.ops.aten.index.Tensor:
            args = (args[0], list(self._unmasked(args[1])))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _unmasked(self, indices: Sequence[Tensor | None]) -> Iterator[Tensor | None]:
        for index in indices:
            if index is not None and index.dtype == torch.bool:
                picked = self._most.get(tuple(index.shape), index.numel())
                yield from (index.new_zeros(picked, dtype=torch.long) for _ in range(index.ndim))
            else:
                yield index


class Valueless(EverythingPicked):  # type: ignore[no-untyped-call]
    """Lets what looks at values be done with tensors that have none: copies to a device that has values stay without,
    numbers are counted to any result, and a mask that is written through is written through nowhere.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not any(isinstance(each, Tensor) and each.is_meta for each in args):
            return super().__torch_dispatch__(func, types, args, kwargs)
        kwargs = dict(kwargs or {})
        if func is torch.ops.aten._to_copy.default:
            kwargs["device"] = torch.device("meta")
        elif func is torch.ops.aten.bincount.default:
            least = kwargs.get("minlength", args[2] if len(args) > 2 else 0)
            return args[0].new_empty(least, dtype=torch.long)
        elif func is torch.ops.aten.index_put_.default and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        ):
            return args[0]
        return super().__torch_dispatch__(func, types, args, kwargs)
