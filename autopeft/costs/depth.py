"""Deep models stand for themselves in part only: equal layers cost the same, so two and three of them tell of all.

Layers next to each other that are equal, in the backbone and in what a method does to them, make a run; so does a
block of different layers that comes again and again, as where every fourth layer is passed by. Of a long run a shallow
model keeps two blocks, and another one three; what a step shows in each of its phases, extended by the difference, is
what the deep model would show. Only phases are extended in this way, never the peak itself: with more layers the worst
moment may lie elsewhere. The blocks in the middle of a run are between its second and its last but one: whatever is
linear in their number is largest at one of these two.
"""

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import nn

from autopeft.backbone.load import Skeleton
from autopeft.backbone.sites import Place, Sites, layer_numbers
from autopeft.costs.work import STAGES, Work
from autopeft.methods.registry import Configured
from autopeft.trial import Costs

_FEW, _MORE = 2, 3
"""Blocks of a long run that the two shallow models keep."""
_BESIDE = 2
"""What a simulation costs beside its layers, in layers."""
_LAYERS = "layers"
"""The setting by which a method is told its layers."""
FIRST, MIDDLE, LAST = 0, 1, 2
"""Where a block lies in a long run."""


@dataclass(frozen=True)
class Profile:
    """What one step, the calibrations before it and one inference showed."""

    phases: Mapping[Any, Mapping[str, int]]
    """By phase, the bytes alive at its worst moment, by what they were used for."""
    totals: Mapping[str, int]
    """Costs that are sums over layers, by name: trainable, stored, flops, frozen_flops (a step's in frozen layers
    whose states are kept), set_up_flops, inference_flops, bare_flops, weights, and the `Work` of each stage."""

    @cached_property
    def costs(self) -> Costs:
        """The same as costs."""
        by_part = max(self.phases.values(), key=lambda parts: sum(parts.values()))
        return Costs(
            self.totals["trainable"],
            sum(by_part.values()),
            self.totals["stored"],
            self.totals["flops"],
            by_part,
            self.totals["inference_flops"],
            self.totals["inference_flops"] / self.totals["bare_flops"] - 1,
            self.totals["set_up_flops"],
            self.totals["flops"] - self.totals["frozen_flops"],
            {name: value for stage in STAGES for name, value in Work.of(stage, self.totals).named(stage).items()},
        )

    def towards(self, *others: tuple[float, "Profile"]) -> "Profile | None":
        """This profile plus so many times the way to each of the others; None where their phases differ."""
        if any(not self.phases.keys() <= other.phases.keys() for _, other in others):
            return None
        phases = {
            phase: _towards(parts, [(times, other.phases[phase]) for times, other in others])
            for phase, parts in self.phases.items()
        }
        return Profile(phases, _towards(self.totals, [(times, other.totals) for times, other in others]))


def _towards(start: Mapping[str, int], ends: Sequence[tuple[float, Mapping[str, int]]]) -> Mapping[str, int]:
    return {key: round(value + sum(times * (end[key] - value) for times, end in ends)) for key, value in start.items()}


@dataclass(frozen=True)
class Run:
    """A block of layers that comes again, next to itself."""

    start: int
    period: int
    """Layers of a block."""
    count: int
    """How often it comes."""

    def kept(self, few: bool) -> range:
        """The layers that a shallow model keeps of it."""
        blocks = self.count if not self.is_long else _FEW if few else _MORE
        return range(self.start, self.start + self.period * blocks)

    @property
    def is_long(self) -> bool:
        return self.count > _MORE


def runs_of(kinds: Sequence[Hashable]) -> tuple[Run, ...]:
    """The runs of layers of these kinds."""
    found, start = [], 0
    while start < len(kinds):
        periods = range(1, (len(kinds) - start) // (_MORE + 1) + 1)
        long = (run for run in (Run(start, each, _times(kinds[start:], each)) for each in periods) if run.is_long)
        found.append(max(long, key=lambda run: (run.count - _MORE) * run.period, default=Run(start, 1, 1)))
        start += found[-1].period * found[-1].count
    return tuple(found)


def _times(kinds: Sequence[Hashable], period: int) -> int:
    """How often the first so many kinds come before something else does."""
    blocks = range(0, len(kinds), period)
    return next((n for n, at in enumerate(blocks) if kinds[at : at + period] != kinds[:period]), len(blocks))


def kinds_of_layers(model: nn.Module, sites: Sites, parts: Sequence[Configured] = ()) -> tuple[Hashable, ...]:
    """What tells layers apart: their modules, tensors and hooks, and which of the methods are told to go there."""
    types = getattr(getattr(model, "config", None), "layer_types", None) or [None] * len(sites.layers)
    chosen = [set(layer_numbers(part.settings.get(_LAYERS, "all"), len(sites.layers))) for part in parts]  # type: ignore[arg-type]
    return tuple(
        (types[number], tuple(number in numbers for numbers in chosen), _kind(model.get_submodule(layer)))
        for number, layer in enumerate(sites.layers)
    )


def _kind(layer: nn.Module) -> Hashable:
    return tuple(
        (
            type(module),
            len(module._forward_hooks) + len(module._forward_pre_hooks),
            *((each.shape, each.dtype, each.requires_grad) for each in module._parameters.values() if each is not None),
            *((each.shape, each.dtype) for each in module._buffers.values() if each is not None),
        )
        for module in layer.modules()
    )


class Shallow:
    """Shallow models of one backbone, made when they are first needed and kept."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self.kinds = kinds_of_layers(skeleton.model, skeleton.sites)
        """Of the backbone's own layers; methods can only tell more of them apart."""
        self._made: dict[tuple[int, ...], Skeleton] = {}

    @property
    def depth(self) -> int:
        return len(self._skeleton.sites.layers)

    @cached_property
    def shortest(self) -> tuple[int, ...]:
        """The layers of a model that has one of each run of the backbone's own layers."""
        return tuple(run.start for run in runs_of(self.kinds))

    def skeleton(self, kept: Sequence[int]) -> Skeleton:
        """The backbone with layers like these only."""
        own = self._first_alike(kept)
        if len(own) == self.depth:
            return self._skeleton
        if own not in self._made:
            self._made[own] = _shortened(self._skeleton, own)
        return self._made[own]

    def parts(self, parts: Sequence[Configured], kept: Sequence[int]) -> tuple[Configured, ...]:
        """The methods, told the layers of the shallow model in place of the deep one's."""
        return tuple(self._retold(part, kept) for part in parts)

    def _retold(self, part: Configured, kept: Sequence[int]) -> Configured:
        layers: Any = part.settings.get(_LAYERS, "all")
        if layers == "all":
            return part
        numbers = layer_numbers(layers, self.depth)
        there = tuple(place for place, number in enumerate(kept) if number in numbers)
        return replace(part, settings={**part.settings, _LAYERS: there})

    def _first_alike(self, kept: Sequence[int]) -> tuple[int, ...]:
        """The lowest layers that are like these, so that few models are needed."""
        own: list[int] = []
        for number in kept:
            later = range(own[-1] + 1 if own else 0, self.depth)
            own.append(next(each for each in later if self.kinds[each] == self.kinds[number]))
        return tuple(own)


def extended(runs: Sequence[Run], few: Profile, more: Mapping[Run, Profile]) -> Profile | None:
    """The deep model's profile: `few` is of the model with two blocks of every long run, `more` of those with three of
    one of them. None where the shallow models' phases do not correspond.
    """
    few = _placed(few, runs, None)
    placed = {run: _placed(profile, runs, run) for run, profile in more.items()}
    every = [(run.count - _FEW, placed[run]) for run in placed]
    whole = few.towards(*every)
    if whole is None:
        return None
    phases = dict(whole.phases)
    for profile in placed.values():
        for phase in profile.phases.keys() - few.phases.keys():
            for end in (FIRST, LAST):
                like = _at(phase, end)
                if like not in few.phases:
                    return None
                start = few.phases[like]
                grown = _towards(start, [(times - (other is profile), other.phases[like]) for times, other in every])
                middle = profile.phases[phase]
                phases[phase, end] = {part: middle[part] + grown[part] - start[part] for part in middle}
    return Profile(phases, whole.totals)


def _at(phase: Any, end: int) -> Any:
    """The same phase in the first or last block of the run in whose middle it is."""
    what, number_of_pass, place = phase
    return what, number_of_pass, place and (*place[:-1], end)


def _placed(profile: Profile, runs: Sequence[Run], longer: Run | None) -> Profile:
    """Phases by a layer's run, its place in a block and where that lies, instead of by its number in the shallow
    model.
    """
    places: dict[int, Hashable] = {}
    for number, run in enumerate(runs):
        kept = run.kept(few=run != longer)
        ends = {0: FIRST, len(kept) // run.period - 1: LAST}
        for each in range(len(kept)):
            block, place = divmod(each, run.period)
            places[len(places)] = number, place, ends.get(block, MIDDLE)
    phases: dict[Any, Mapping[str, int]] = {}
    for phase, parts in profile.phases.items():
        what, number_of_pass, layer = phase
        phases[what, number_of_pass, places.get(layer)] = parts
    return Profile(phases, profile.totals)


def shallow_models(kinds: Sequence[Hashable]) -> tuple[tuple[Run, ...], Mapping[Run | None, tuple[int, ...]]] | None:
    """The runs, and the layers kept by each shallow model: None -> two blocks of every long run, a run -> three of
    that.

    None where simulating the whole model is less work.
    """
    runs = runs_of(kinds)
    longer: list[Run | None] = [None, *(run for run in runs if run.is_long)]
    kept = {each: tuple(number for run in runs for number in run.kept(few=run != each)) for each in longer}
    work = sum(len(numbers) + _BESIDE for numbers in kept.values())
    return (runs, kept) if len(longer) > 1 and work < len(kinds) else None


def _shortened(skeleton: Skeleton, kept: tuple[int, ...]) -> Skeleton:
    model, sites = skeleton.model, skeleton.sites
    lists: dict[str, list[int]] = {layer.rpartition(".")[0]: [] for layer in sites.layers}
    for number in kept:
        lists[sites.layers[number].rpartition(".")[0]].append(number)
    whole = {path: model.get_submodule(path) for path in lists}
    try:
        for path, numbers in lists.items():
            _put(model, path, nn.ModuleList(model.get_submodule(sites.layers[number]) for number in numbers))
        copied, output = copy.deepcopy((model, skeleton.output))
    finally:
        for path, layers in whole.items():
            _put(model, path, layers)
    for config in {id(each): each for each in (copied.config, copied.config.get_text_config())}.values():
        types = getattr(config, "layer_types", None)
        config.num_hidden_layers = len(kept)
        if types:
            config.layer_types = [types[number] for number in kept]
    place_of = {number: place for place, number in enumerate(kept)}
    paths = {sites.layers[number]: f"{path}.{place}" for path, own in lists.items() for place, number in enumerate(own)}
    places = {
        site: tuple(_moved(place, place_of, paths) for place in all_ if place.layer in (-1, *kept))
        for site, all_ in sites.places.items()
    }
    return Skeleton(skeleton.name, copied, replace(sites, layers=tuple(paths.values()), places=places), output=output)


def _put(model: nn.Module, path: str, layers: nn.Module) -> None:
    """In the place of a list of layers."""
    holder, _, attribute = path.rpartition(".")
    setattr(model.get_submodule(holder), attribute, layers)


def _moved(place: Place, place_of: Mapping[int, int], paths: Mapping[str, str]) -> Place:
    """A place where its layer lies in the shallow model."""

    def moved(path: str) -> str:
        for before, now in paths.items():
            if path == before or path.startswith(before + "."):
                return now + path[len(before) :]
        return path

    return replace(
        place,
        path=moved(place.path),
        layer=place_of.get(place.layer, -1),
        source=moved(place.source),
        norm=moved(place.norm),
    )
