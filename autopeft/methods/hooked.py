"""What methods of our own share: weights beside the model, hooks on its modules, one file to save.

Hooks never outlive `detach`, and never change the model's classes, so methods stack on each other and on peft's layers.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from autopeft.backbone.held import HALF
from autopeft.errors import AutopeftError
from autopeft.methods.base import Attachment

WEIGHTS = "method.safetensors"
_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""What weights are saved in. Others would be read as other numbers than those that were trained."""


class Hooked(Attachment):
    """An attachment made of `module` (its weights) and hooks; what it trains is all of `module`."""

    def __init__(self, model: nn.Module, module: nn.Module) -> None:
        self.model = model
        self.module = module
        self._handles: list[RemovableHandle] = []

    def trainable(self) -> Mapping[str, nn.Parameter]:
        return dict(self.module.named_parameters())

    def on_output(self, path: str, change: Callable[[Tensor], Tensor]) -> None:
        """Replaces the output of the module at `path` by `change(output)`; in a tuple, its first element."""

        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (alike(change, output[0]), *output[1:])
            return alike(change, output)

        self._handles.append(self.model.get_submodule(path).register_forward_hook(hook))

    def on_call(self, path: str, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Replaces the output of the module at `path` by `change(first input, output)`."""

        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return alike(change, inputs[0], output)

        self._handles.append(self.model.get_submodule(path).register_forward_hook(hook))

    def before_norm(self, path: str, change: Callable[[Tensor], Tensor]) -> None:
        """Replaces the output u of the norm at `path` by the norm of its input with `change(u)` added."""
        norm = self.model.get_submodule(path)

        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return _normed(norm, alike(lambda u, x: x + change(u), output, inputs[0]))

        self._handles.append(norm.register_forward_hook(hook))

    def between(self, source: str, path: str, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Replaces the output of the module at `path` by `change(first input of the module at source, output)`."""
        seen: list[Tensor] = []

        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[:] = [inputs[0]]

        def after(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            return alike(change, seen.pop(), output)

        self._handles.append(self.model.get_submodule(source).register_forward_pre_hook(before))
        self._handles.append(self.model.get_submodule(path).register_forward_hook(after))

    def save(self, folder: Path) -> None:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.shipped().items()}
        save_file(tensors, folder / WEIGHTS)

    def load(self, folder: Path) -> None:
        copy_into(self.trainable(), read_tensors(folder / WEIGHTS), folder)

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _normed(norm: nn.Module, states: Tensor) -> Tensor:
    """What a norm gives, also where only some of its weights are trained, and held in fp32 for that."""
    own = {name: each for name, each in norm._parameters.items() if each is not None}
    mixed: dict[str, Any] = own
    if len({each.dtype for each in own.values()}) > 1:
        mixed = {name: each.to(states.dtype) for name, each in own.items()}
    norm._parameters.update(mixed)
    try:
        normed: Tensor = norm.forward(states)
    finally:
        norm._parameters.update(own)
    return normed


def alike(change: Callable[..., Tensor], *states: Tensor) -> Tensor:
    """`change(*states)` in the dtype of the last of these states. What a method trains is fp32: so are the states that
    it gets, unless autocast says what is computed in.
    """
    dtype = states[-1].dtype
    return change(*(fitting(each) for each in states)).to(dtype)


def fitting(states: Tensor, weight: Tensor | None = None) -> Tensor:
    """States held in half as what is trained in fp32, such as this weight, takes them: autocast says it by itself."""
    wide = weight is None or weight.dtype == torch.float32
    if not wide or states.dtype not in HALF or torch.is_autocast_enabled(states.device.type):
        return states
    return states.float()


@contextmanager
def undone_on_error(attached: Hooked) -> Iterator[Hooked]:
    """For a method's `attach`: when hooking fails half-way, the hooks made so far are removed."""
    try:
        yield attached
    except BaseException:
        attached.detach()
        raise


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file, by name. Raises AutopeftError when it is missing or damaged.

    Their values are read from the disk when they are asked for: whoever looks at their shapes first is safe from files
    that are too large.
    """
    if not file.is_file():
        raise AutopeftError(f"'{file}' cannot be read: it is {'no file' if file.exists() else 'missing'}.")
    try:
        return load_file(file)
    except MemoryError as error:
        raise AutopeftError(f"'{file}' cannot be read: it does not fit into memory.") from error
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise AutopeftError(f"'{file}' cannot be read: {error}.") from error


def require_finite(name: str, tensor: Tensor, source: Path) -> None:
    """Refuses what would silently answer the same whatever it is asked. Raises AutopeftError."""
    if tensor.dtype not in _FLOATS:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise AutopeftError(f"'{source}' is damaged: '{name}' holds {kind}, not float32, bfloat16, float16 or float64.")
    if not torch.isfinite(tensor.float()).all():
        raise AutopeftError(f"'{source}' is damaged: '{name}' holds values that are no finite numbers.")


def copy_into(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor], source: Path) -> None:
    """Copies saved values into tensors of the same names and shapes. Raises AutopeftError when they do not match."""
    if tensors.keys() != values.keys():
        differing = sorted(tensors.keys() ^ values.keys())
        raise AutopeftError(
            f"'{source}' does not belong to this model and method: '{differing[0]}' is in one of them only."
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            if tensor.shape != values[name].shape:
                raise AutopeftError(
                    f"'{source}' does not belong to this model: '{name}' has shape {tuple(values[name].shape)}, "
                    f"here it is {tuple(tensor.shape)}."
                )
            if tensor.dtype != values[name].dtype or tensor.is_floating_point():
                require_finite(name, values[name], source)
            tensor.copy_(values[name])


def trained_in(weight: Tensor) -> torch.dtype:
    """In what is trained what stands for this weight, or beside it."""
    return torch.float32 if weight.dtype in HALF else weight.dtype


def host(model: nn.Module, path: str) -> tuple[torch.device, torch.dtype]:
    """The device of the module at `path`, or of the model where that module has no weights, and the dtype in which what
    is added there is trained: that of its weights, and fp32 where these are held in half of it.

    Raises AutopeftError for a model without floating-point parameters.
    """
    for owner in (model.get_submodule(path), model):
        for parameter in owner.parameters():
            if parameter.is_floating_point():
                return parameter.device, trained_in(parameter)
    raise AutopeftError("the model has no floating-point parameters.")
