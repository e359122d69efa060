"""Methods on a living model: attach, train, save, detach without trace.

`attach` works on any transformers model. The backbone is frozen, and a language model whole; a task head outside the
backbone keeps its own setting of `requires_grad`, so that it can be trained beside the method.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from autopeft.backbone.find import find_sites
from autopeft.backbone.held import held_in
from autopeft.backbone.inputs import bare, is_crossed
from autopeft.backbone.quantised import format_of
from autopeft.backbone.sites import Sites
from autopeft.errors import AutopeftError, CannotAttach, CannotMerge
from autopeft.methods.base import Attachment, Divergence, Losses
from autopeft.methods.registry import Configured, Hybrid, method
from autopeft.methods.saved import DESCRIPTION, read_parts
from autopeft.methods.untouched import Look, looked_at, still_modules, untouched_layers

Wanted = str | Configured | Hybrid | Sequence[str | Configured | Hybrid]
"""A method by name (at its defaults), `method("lora", rank=8)`, a hybrid, or several to be attached together."""
_QUANTISED = "quantised"
"""The capability of a method to stand on packed matrices."""
_CARRIES = "_autopeft_carries"
"""Attribute of a backbone that names the methods attached to it."""


@dataclass(frozen=True)
class TrainableTensor:
    """One tensor that a part trains."""

    part: int
    """Which part of the hybrid it belongs to, from 0."""
    name: str
    tensor: nn.Parameter
    decay: bool
    """Whether weight decay may act on it."""


class Attached:
    """One or several methods attached to a model, until `detach`. Usable as a context manager."""

    def __init__(self, model: nn.Module, parts: Sequence[Configured], sites: Sites) -> None:
        self._bare = model
        self.held = held_in(bare(model))
        """What the backbone's weights are held in."""
        self._required_grad = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        self.chosen = tuple(parts)
        self.model = model
        """What to call from now on."""
        self._order: tuple[Attachment, ...] = ()
        attached: dict[int, Attachment] = {}
        self._layers = tuple(model.get_submodule(path) for path in sites.layers)
        setattr(bare(model), _CARRIES, ", ".join(each.name for each in parts))
        before = looked_at(bare(model))
        try:
            _freeze(model)
            wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
            for index in sorted(range(len(parts)), key=lambda i: parts[i].method.stage):
                attached[index] = parts[index].method.attach(self.model, sites)
                self.model = attached[index].model
                self._order = tuple(attached.values())
            _require_room([(parts[index].name, part) for index, part in attached.items()], model)
        except BaseException:
            self.detach()
            raise
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
        self.parts = tuple(attached[index] for index in range(len(parts)))
        self.modules = nn.ModuleList(part.module for part in self.parts)
        """The weights that the methods keep beside the model, for `to`, `train` and `eval`."""
        for each in self.tensors():
            each.tensor.requires_grad_(True)
        self._untouched = self._count_untouched(before)

    def __repr__(self) -> str:
        return f"<Attached: {', '.join(each.name for each in self.chosen)}; {self.count:,} trained parameters>"

    @property
    def prepended(self) -> int:
        """Positions before the real tokens in the model's output."""
        return sum(part.prepended for part in self.parts)

    @torch.no_grad()
    def prompt(self) -> Tensor:
        """(prepended, width) embeddings of these positions. Raises AutopeftError where a part tells none."""
        found = [prompt for part in self.parts if (prompt := part.prompt()) is not None]
        if sum(map(len, found)) != self.prepended:
            raise AutopeftError(f"{', '.join(each.name for each in self.chosen)} tells no embeddings of its prompt.")
        return torch.cat(found)

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """The lowest layers on which nothing acts that is attached: what they compute is as without it."""
        return self._layers[: self._untouched]

    @property
    def depth(self) -> int:
        """Layers of the backbone."""
        return len(self._layers)

    def still(self) -> tuple[nn.Module, ...]:
        """What of the backbone has nothing to train in or below it: it is without dropout in training, too."""
        return still_modules(bare(self._bare), self._layers, self._untouched)

    @property
    def read(self) -> frozenset[nn.Module]:
        """Modules of the backbone whose states are read on the way, and left as they are."""
        return frozenset(module for part in self.parts for module in part.reads())

    def _count_untouched(self, before: Sequence[Look]) -> int:
        if self.model is not self._bare or self.prepended or is_crossed(self._bare):
            return 0
        return untouched_layers(before, self._layers, self.read)

    def tensors(self) -> Iterator[TrainableTensor]:
        """Every trained tensor, each once."""
        seen: set[int] = set()
        for index, part in enumerate(self.parts):
            undecayed = part.undecayed()
            for name, tensor in part.trainable().items():
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield TrainableTensor(index, name, tensor, name not in undecayed)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained tensors, for an optimizer."""
        return (each.tensor for each in self.tensors())

    @property
    def count(self) -> int:
        """Trainable parameters, without the head."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def stored(self) -> int:
        """Bytes of the tensors that have to be shipped, without a head."""
        tensors = {id(tensor): tensor for part in self.parts for tensor in part.shipped().values()}
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    @property
    def remaining(self) -> tuple[Configured, ...]:
        """The methods that would be left if those that merge were merged."""
        return tuple(each for each, part in zip(self.chosen, self.parts, strict=True) if not part.mergeable)

    def set_up(self, losses: Losses) -> None:
        """Lets every part make its pass over training data; called once, before training, where there is data."""
        for part in self.parts:
            part.set_up(losses)

    def stepped(self, step: int, steps: int) -> None:
        """Tells every part that the optimizer has taken a step, before gradients are cleared."""
        for part in self.parts:
            part.stepped(step, steps)

    def extra_loss(self, output: Tensor, again: Callable[[], Tensor], divergence: Divergence) -> Tensor | None:
        """The sum of the parts' extra losses of the forward pass just made, or None."""
        losses = [loss for part in self.parts if (loss := part.extra_loss(output, again, divergence)) is not None]
        return torch.stack(losses).sum() if losses else None

    def state(self) -> list[Mapping[str, Mapping[str, Tensor]]]:
        """What a training needs of each part to go on later: the values that are trained, and what is beside them."""
        return [{"trained": part.trainable(), "beside": part.state()} for part in self.parts]

    @torch.no_grad()
    def take_up(self, states: Sequence[Mapping[str, Mapping[str, Tensor]]]) -> None:
        """Makes parts that were just attached what they were when they gave these states, instead of `set_up`."""
        for part, state in zip(self.parts, states, strict=True):
            part.take_up(state["beside"])
            trained = part.trainable()
            for name, value in state["trained"].items():
                trained[name].copy_(value)

    def settle(self) -> None:
        """Drops what serves training only from every part."""
        for part in self.parts:
            part.settle()

    def save(self, folder: str | Path) -> Path:
        """Writes the trained tensors and what is needed to attach them again; a peft method alone in peft's format."""
        self._require_attached()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for part, place in zip(self.parts, _folders(folder, self.chosen), strict=True):
            place.mkdir(exist_ok=True)
            part.save(place)
        description = {"parts": [each.to_dict() for each in self.chosen]}
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        return folder

    def load(self, folder: str | Path) -> Self:
        """Reads tensors that `save` wrote for the same methods on the same model. Raises AutopeftError."""
        self._require_attached()
        for part, place in zip(self.parts, _folders(Path(folder), self.chosen), strict=True):
            part.load(place)
        return self

    def merge(self) -> nn.Module:
        """Folds all parts into the weights and returns the plain model. Raises CannotMerge, with nothing changed."""
        self._require_attached()
        if format := format_of(self._bare):
            raise CannotMerge(
                f"what is learned cannot be merged into matrices in {format}: attach it to the unquantised model, and "
                "merge it there."
            )
        for each, part in zip(self.chosen, self.parts, strict=True):
            if not part.mergeable:
                raise CannotMerge(
                    f"'{each.name}' cannot be merged into the weights: it adds computation, not a weight change."
                )
        for trained in self.tensors():
            if not torch.isfinite(trained.tensor).all():
                raise CannotMerge(f"'{trained.name}' is not finite: merged, it would spoil the weights.")
        for part in self._order:
            part.merge()
        self.detach()
        return self._bare

    def detach(self) -> None:
        """Takes everything off: the model is what it was before, bit for bit. A second time does nothing.

        A part that raises keeps none of the others on the model; the first error is raised when all is off.
        """
        if not self.is_attached:
            return
        failed: list[BaseException] = []
        for part in reversed(self._order):
            try:
                part.detach()
            except BaseException as error:
                failed.append(error)
        for parameter, flag in self._required_grad:
            parameter.requires_grad_(flag)
            parameter.grad = None
        self.parts = self._order = ()
        self.model = self._bare
        self._required_grad = []
        delattr(bare(self._bare), _CARRIES)
        if failed:
            raise failed[0]

    @property
    def is_attached(self) -> bool:
        """Whether the methods are still on the model."""
        return bool(self._required_grad)

    def _require_attached(self) -> None:
        if not self.is_attached:
            raise AutopeftError(f"{', '.join(each.name for each in self.chosen)} is detached already.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.detach()


def attach(model: nn.Module, what: Wanted, sites: Sites | Mapping[str, str] | None = None) -> Attached:
    """Attaches a method, a hybrid, or several of them together to a transformers model.

    >>> attached = attach(model, method("lora", rank=8, sites=["q", "v"]))

    `sites` are found when not given. Where an architecture is not understood, give them by hand: site -> module path
    with * for the layer's number (see `find_sites`):

    >>> attach(model, method("lora"), sites={"layer": "blocks.*", "q": "blocks.*.mix.wq", "v": "blocks.*.mix.wv"})

    Raises CannotAttach with the reason, leaving the model as it was.
    """
    parts = tuple(parts_of(what))
    if not parts:
        raise AutopeftError("give at least one method to attach.")
    carried = getattr(bare(model), _CARRIES, None)
    if carried is not None:
        advice = "detach that first, or attach several methods together as a list"
        raise CannotAttach(f"{type(model).__name__} carries {carried} already: {advice}.")
    _require_company(parts)
    _require_packed(parts, model)
    return Attached(model, parts, sites if isinstance(sites, Sites) else find_sites(model, sites))


def attach_saved(model: nn.Module, folder: str | Path, sites: Sites | Mapping[str, str] | None = None) -> Attached:
    """Attaches what `Attached.save` wrote, with its values. Raises AutopeftError, leaving the model as it was."""
    folder = Path(folder)
    attached = attach(model, read_parts(folder), sites)
    try:
        return attached.load(folder)
    except BaseException:
        attached.detach()
        raise


def parts_of(what: Wanted) -> Iterator[Configured]:
    """The methods meant, one by one. Raises AutopeftError for what is none."""
    if isinstance(what, str):
        what = method(what)
    if isinstance(what, Configured):
        yield what
    elif isinstance(what, Hybrid):
        yield from what.parts
    elif isinstance(what, Iterable):
        for each in what:
            yield from parts_of(each)
    else:
        raise AutopeftError(f"{what!r} is no method: give method('lora'), or a list of methods.")


def require_capable(parts: Sequence[Configured], needs: Sequence[str]) -> None:
    """Raises CannotAttach where a method has not what a task needs."""
    for part, need in product(parts, needs):
        if need in (lacks := part.method.lacks):
            raise CannotAttach(f"'{part.name}' is not {need}, as this task needs it: {lacks[need]}.")


def _require_packed(parts: Sequence[Configured], model: nn.Module) -> None:
    """Raises CannotAttach where a method cannot stand on a model's quantised matrices."""
    format = format_of(model)
    for part in parts if format else ():
        if _QUANTISED in (lacks := part.method.lacks):
            raise CannotAttach(f"'{part.name}' cannot stand on a backbone in {format}: {lacks[_QUANTISED]}.")


def _freeze(model: nn.Module) -> None:
    """Freezes the backbone, and a language model whole; a task head outside the backbone stays as it is."""
    get_output_embeddings = getattr(model, "get_output_embeddings", None)
    language_model = get_output_embeddings is not None and get_output_embeddings() is not None
    (model if language_model else bare(model)).requires_grad_(False)


def _require_company(parts: Sequence[Configured]) -> None:
    """Some methods are only ever attached alone."""
    for index, part in enumerate(parts):
        others = ", ".join(f"'{other.name}'" for place, other in enumerate(parts) if place != index)
        if others and part.method.excludes_others:
            raise CannotAttach(f"'{part.name}' cannot go together with {others}: {part.method.excludes_others}.")


def _require_room(parts: Sequence[tuple[str, Attachment]], model: nn.Module) -> None:
    """A weight that one part trains is not changed by another: nothing could tell the two changes apart."""
    names = {id(each): name for name, each in (*model.named_buffers(), *model.named_parameters())}
    acted_on = [({*map(id, part.selects())}, {*map(id, part.moves())}) for _, part in parts]
    for one, other in permutations(range(len(parts)), 2):
        (one_name, moving), (other_name, _) = parts[one], parts[other]
        selected, moved = acted_on[other]
        shared = acted_on[one][1] & (selected | moved if moving.alone else selected)
        if shared:
            what = names[min(shared, key=list(names).index)].replace(".base_layer", "")
            raise CannotAttach(
                f"'{one_name}' and '{other_name}' both change {what}: what one learns cannot be told from the other's. "
                "Give them other sites or layers."
            )


def _folders(folder: Path, chosen: Sequence[Configured]) -> list[Path]:
    if len(chosen) == 1:
        return [folder]
    return [folder / f"{index}-{each.name}" for index, each in enumerate(chosen)]
