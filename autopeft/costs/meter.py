"""A meter of work: bytes alive while torch works, now and at the worst moment, and floating-point operations.

It watches storages, each counted once however many views it has, from the operation that returns them until they are
freed. So it gives the same numbers on real tensors and on fake ones, which have no memory. Operations are counted by
torch's own formulas (matrix products, convolutions, attention), but not by its `FlopCounterMode`, which keeps
checkpointed activations alive. Whoever runs a step may tell when a phase of it begins; the peak is kept for each. Not
covered: workspaces that a kernel takes and gives back inside one operation (on a CPU, attention takes a few tiles, and
in the backward pass one copy of the gradient that it is given), torch itself, and what an allocator keeps of freed
memory: on a CPU, glibc's defaults can make a step with checkpointing occupy more than twice what is alive
(`benchmarks/cost_accuracy.py`).
"""

import weakref
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from autopeft.backbone.fakes import grouped_flops
from autopeft.costs.work import Count, Work, storages

PARTS = ("weights", "activations", "gradients", "optimizer", "temporary")
WEIGHTS, ACTIVATIONS, GRADIENTS, OPTIMIZER, TEMPORARY = PARTS

_CPU = torch.device("cpu")
_aten = torch.ops.aten
_FLOPS = {
    **flop_registry,
    _aten._grouped_mm: grouped_flops,
    _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[_aten._scaled_dot_product_flash_attention],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _aten._scaled_dot_product_flash_attention_backward
    ],
}
"""Formula by operation; torch's table knows flash attention on CUDA only, and no experts."""
_DEVICE = torch.ops.prim.device.default
"""What torch asks of fake tensors all the time; answered without dispatch, a simulated step is a fifth shorter."""


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts bytes alive between `__enter__` and `__exit__`.

    What exists already is told by `register`. Results of operations count as `activations` while gradients are recorded
    (a forward pass, also one that is repeated for checkpointing) and as `temporary` otherwise (the backward pass, the
    optimizer), until a tensor given to `watch_gradients` takes them as its gradient.
    """

    def __init__(self, device: torch.device = _CPU) -> None:
        """Bytes are counted on this device only."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device.type
        self.live = 0
        """Bytes alive now."""
        self._work = Count()
        self.flops = 0
        """Floating-point operations so far."""
        self.peaks: dict[Hashable, Mapping[str, int]] = {}
        """The bytes alive at the worst moment of each phase, split by what they were used for."""
        self._phase: Hashable = None
        self._most = -1
        """Most bytes alive at one moment of this phase."""
        self._by_part = dict.fromkeys(PARTS, 0)
        self._part_of: dict[int, str] = {}
        self._watching: list[Any] = []
        self._references: dict[int, weakref.finalize[Any, Any]] = {}

    @property
    def peak(self) -> int:
        """Most bytes alive at one moment so far."""
        return sum(self.peak_by_part.values())

    @property
    def peak_by_part(self) -> Mapping[str, int]:
        """`peak` split by what it was used for at that moment."""
        return max(self.peaks.values(), key=lambda parts: sum(parts.values()), default=dict.fromkeys(PARTS, 0))

    @property
    def work(self) -> Work:
        """All that was done so far."""
        return self._work.done

    def of_rows(self, batch: Iterable[Tensor]) -> None:
        """These tensors are of the rows of a batch: what comes of them grows with it."""
        self._work.begins_with(batch)

    def enter(self, phase: Hashable) -> None:
        """A phase of the step begins, or goes on."""
        self._phase = phase
        self._most = sum(self.peaks[phase].values()) if phase in self.peaks else -1
        self._note_peak()

    def register(self, tensors: Iterable[Tensor], part: str) -> None:
        """Counts tensors that were there before, or moves tensors that are counted already to another part."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            known = self._part_of.get(id(storage))
            if known is None:
                self._count(tensor, storage, part)
            elif known != part:
                self._part_of[id(storage)] = part
                self._by_part[known] -= storage.nbytes()
                self._by_part[part] += storage.nbytes()
        self._note_peak()

    def watch_gradients(self, tensors: Iterable[Tensor]) -> None:
        """From now on, what becomes the gradient of these leaf tensors counts as such."""
        for tensor in tensors:
            handle = tensor.register_post_accumulate_grad_hook(self._accumulated)  # type: ignore[no-untyped-call]
            self._watching.append(handle)

    def _accumulated(self, tensor: Tensor) -> None:
        if tensor.grad is not None:
            self.register([tensor.grad], GRADIENTS)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DEVICE:
            return args[0].fake_device
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = _FLOPS.get(func._overloadpacket)
        flops = 0 if formula is None else formula(*args, **kwargs, out_val=result)
        self.flops += flops
        self._work.add(func, (args, [*kwargs.values()]), result, flops)
        part = ACTIVATIONS if torch.is_grad_enabled() else TEMPORARY
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                for storage in storages(value):
                    if id(storage) not in self._part_of:
                        self._count(value, storage, part)
        self._note_peak()
        return result

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._watching:
            handle.remove()
        for reference in self._references.values():
            reference.detach()
        self._watching.clear()
        self._references.clear()

    def _count(self, tensor: Tensor, storage: torch.UntypedStorage, part: str) -> None:
        if (getattr(tensor, "fake_device", None) or tensor.device).type != self._device:
            return
        size = storage.nbytes()
        self._part_of[id(storage)] = part
        self._by_part[part] += size
        self.live += size
        self._references[id(storage)] = weakref.finalize(storage, self._freed, id(storage), size)

    def _freed(self, key: int, size: int) -> None:
        self._by_part[self._part_of.pop(key)] -= size
        self._references.pop(key, None)
        self.live -= size

    def _note_peak(self) -> None:
        if self.live > self._most:
            self._most = self.live
            self.peaks[self._phase] = dict(self._by_part)
