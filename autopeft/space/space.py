"""A space: everything that may vary, drawn define-by-run.

The method (or hybrid, or free mixture) is drawn first, then its own parameters, named `method.parameter`, then the
training settings. A space holds only what can be attached: `fitted` leaves out what a probe refuses, with the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from autopeft.errors import AutopeftError, unknown
from autopeft.shipped import shipped
from autopeft.space.candidate import OF_TASKS, Candidate, Part, Training, Value
from autopeft.space.cards import (
    Card,
    HybridCard,
    HybridPart,
    changed_cards,
    declared_cards,
    load_cards,
    load_hybrids,
    read_yaml,
)
from autopeft.space.parameters import Draws, Parameter, Recalled, frozen, label, read_parameter

MIXTURE = "mixture"
_SPACE_FIELDS = {"summary", "methods", "hybrids", "mixtures", "training", "cards", "first"}
_TRAINING_FIELDS = tuple(Training.__dataclass_fields__)


@dataclass(frozen=True)
class Space:
    """What may be searched."""

    name: str
    summary: str
    cards: Mapping[str, Card] = field(repr=False)
    """Every known card, by name; hybrids may use cards that the space does not draw alone."""
    methods: tuple[str, ...]
    """Methods drawn alone and in mixtures."""
    hybrids: Mapping[str, HybridCard]
    """Hybrids drawn, by name."""
    mixture_size: int
    """Most methods in a free mixture; 0 or 1 for none."""
    training: Mapping[str, Parameter]
    """Training settings shared by all methods."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """What cannot be attached to the backbone, and why."""
    pairs: frozenset[frozenset[str]] | None = None
    """Pairs of methods that may be mixed; None before the space was fitted: all."""
    first: tuple[Mapping[str, Any], ...] = ()
    """What a search begins with, whatever it costs: a method, and draws that differ from its defaults."""

    def kinds(self) -> tuple[str, ...]:
        """What is drawn first: methods, hybrids, and 'mixture' where there is one."""
        mixable = self.mixture_size >= 2 and any(self._partners((name,)) for name in self.methods)
        return (*self.methods, *self.hybrids, *((MIXTURE,) if mixable else ()))

    def having(self, of_task: Mapping[str, Parameter | None]) -> "Space":
        """The space for a task that has these settings of `OF_TASKS`: the others are not drawn.

        What the task says of a setting holds where the space says nothing of it.
        """
        left = {name: each for name, each in self.training.items() if name not in OF_TASKS or name in of_task}
        own = {name: each for name, each in of_task.items() if each is not None and name not in left}
        return replace(self, training={**left, **own})

    def draw(self, draws: Draws) -> Candidate:
        """One candidate, every value taken from `draws`."""
        kinds = self.kinds()
        kind = str(draws.draw("method", Parameter(kinds[0], kinds)))
        if kind in self.hybrids:
            parts = tuple(self._hybrid_part(draws, kind, part) for part in self.hybrids[kind].parts)
        elif kind == MIXTURE:
            names = self._mixture(draws)
            parts = tuple(self._part(draws, name) for name in names)
            kind = "+".join(names)
        else:
            parts = (self._part(draws, kind),)
        training = {
            name: draws.draw(f"training.{name}", parameter) if parameter.varies else parameter.default
            for name, parameter in self.training.items()
        }
        return Candidate(kind, parts, Training(**training))  # type: ignore[arg-type]

    def defaults(self, kind: str) -> Candidate:
        """The candidate of one method or hybrid at all its defaults."""
        return self.draw(Recalled({"method": kind}))

    def fitted(
        self, refusal: Callable[[Candidate], str | None], unfitness: Callable[[Candidate], str | None] | None = None
    ) -> "Space":
        """The space without what cannot be attached; `refusal` gives the reason why a candidate cannot, or None.

        `unfitness` may look more closely at each method and hybrid by itself.
        Raises AutopeftError when nothing is left.
        """
        reasons = {kind: (unfitness or refusal)(self.defaults(kind)) for kind in (*self.methods, *self.hybrids)}
        refused = {kind: reason for kind, reason in reasons.items() if reason is not None}
        kept = replace(
            self,
            methods=tuple(name for name in self.methods if name not in refused),
            hybrids={name: card for name, card in self.hybrids.items() if name not in refused},
            refused=refused,
        )
        if not kept.methods and not kept.hybrids:
            first = next(iter(refused.items()), ("", "it names no method"))
            raise AutopeftError(
                f"nothing in the space '{self.name}' can be attached to this backbone: {first[0]}: {first[1]}"
            )
        if self.mixture_size < 2:
            return kept
        alone = {name: kept.defaults(name).parts for name in kept.methods}
        pairs = frozenset(
            frozenset(pair)
            for pair in combinations(kept.methods, 2)
            if refusal(Candidate("+".join(pair), alone[pair[0]] + alone[pair[1]])) is None
        )
        return replace(kept, pairs=pairs)

    def only(self, names: tuple[str, ...]) -> "Space":
        """The space of these methods and hybrids. Raises AutopeftError for one that it does not hold."""
        for name in names:
            if name not in (*self.methods, *self.hybrids, MIXTURE):
                raise unknown("method", name, (*self.methods, *self.hybrids, MIXTURE))
        if not names:
            return self
        methods = tuple(name for name in self.methods if name in names)
        hybrids = {name: card for name, card in self.hybrids.items() if name in names}
        if not methods and not hybrids:
            raise AutopeftError("a mixture needs methods to mix; name two or more beside it.")
        return replace(
            self, methods=methods, hybrids=hybrids, mixture_size=self.mixture_size if MIXTURE in names else 0
        )

    def _partners(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Methods that can join `names`; those later in the order only, so that each mixture has one name."""
        later = self.methods[self.methods.index(names[-1]) + 1 :]
        return tuple(
            o for o in later if self.pairs is None or all(frozenset((o, name)) in self.pairs for name in names)
        )

    def _mixture(self, draws: Draws) -> tuple[str, ...]:
        first = tuple(name for name in self.methods if self._partners((name,)))
        names: tuple[str, ...] = (str(draws.draw("mixture.first", Parameter(first[0], first))),)
        while len(names) < self.mixture_size and (partners := self._partners(names)):
            options = partners if len(names) == 1 else ("none", *partners)
            drawn = str(draws.draw(f"mixture.after.{'+'.join(names)}", Parameter(options[0], options)))
            if drawn == "none":
                break
            names = (*names, drawn)
        return names

    def _part(self, draws: Draws, name: str) -> Part:
        card = self.cards[name]
        return _drawn_part(draws, name, name, card.settings, card.training)

    def _hybrid_part(self, draws: Draws, hybrid: str, part: HybridPart) -> Part:
        card = self.cards[part.method]
        settings = {**card.settings, **part.settings}
        return _drawn_part(draws, f"{hybrid}.{part.name}", part.method, settings, {**card.training, **part.training})


def _drawn_part(
    draws: Draws, prefix: str, method: str, settings: Mapping[str, Parameter], training: Mapping[str, Parameter]
) -> Part:
    def value(name: str, parameter: Parameter) -> Value:
        return draws.draw(f"{prefix}.{name}", parameter) if parameter.varies else parameter.default

    drawn = {name: value(name, parameter) for name, parameter in settings.items()}
    trained: dict[str, Any] = {name: value(name, parameter) for name, parameter in training.items()}
    return Part(method, drawn, **trained)


def named_spaces(folder: Path | None = None) -> tuple[str, ...]:
    """Names of the shipped spaces."""
    return tuple(sorted(file.stem for file in (folder or shipped("search_spaces")).glob("*.yaml")))


def load_space(name: str) -> Space:
    """A shipped space by name, or a user's own folder: `methods/*.yaml`, `hybrids/*.yaml` and, where there is one,
    `space.yaml`.

    A folder's cards stand beside the shipped ones and before them; without a `space.yaml` the space draws the folder's
    own methods and hybrids, with the training settings of the space `default`. Raises AutopeftError naming file and
    field.
    """
    return _space(name, load_cards)


def declared_space(name: str) -> Space:
    """The same space, without a look at the classes that its cards name: nothing is imported. Raises AutopeftError."""
    return _space(name, declared_cards)


def _space(name: str, load_cards: Callable[[Path | None], Mapping[str, Card]]) -> Space:
    folder = Path(name)
    if name in named_spaces():
        cards = load_cards(None)
        return _read_space(name, shipped("search_spaces") / f"{name}.yaml", cards, load_hybrids(cards))
    try:
        is_file, is_folder = folder.is_file(), folder.is_dir()
    except (OSError, ValueError):  # What is too long for a path, say.
        is_file = is_folder = False
    if is_file:
        raise AutopeftError(f"'{name}' is a file; a space of your own is the folder that holds its space.yaml.")
    if not is_folder:
        raise unknown("space", name, named_spaces())
    own = load_cards(folder)
    cards = {**load_cards(None), **own}
    own_hybrids = load_hybrids(cards, folder)
    file = folder / "space.yaml"
    if file.exists():
        return _read_space(name, file, cards, {**load_hybrids(cards), **own_hybrids})
    if not own and not own_hybrids:
        raise AutopeftError(f"'{name}' holds no cards: neither methods/*.yaml nor hybrids/*.yaml nor space.yaml.")
    default = _space("default", load_cards)
    return replace(default, name=name, summary="", cards=cards, methods=tuple(own), hybrids=own_hybrids)


def _read_space(name: str, file: Path, cards: Mapping[str, Card], hybrids: Mapping[str, HybridCard]) -> Space:
    plain = read_yaml(file, _SPACE_FIELDS)
    cards = {**cards, **changed_cards(plain.get("cards", {}), cards, file)}

    def chosen(field_name: str, known: Mapping[str, Any]) -> tuple[str, ...]:
        names = plain.get(field_name, [])
        if names == "all":
            return tuple(known)
        for each in names:
            if each not in known:
                raise AutopeftError(f"{file}: {field_name}: {unknown('card', str(each), known)}")
        return tuple(names)

    training = {}
    for field_name, value in plain.get("training", {}).items():
        if field_name not in _TRAINING_FIELDS:
            raise AutopeftError(f"{file}: training: {unknown('setting', field_name, _TRAINING_FIELDS)}")
        training[field_name] = read_parameter(value, f"{file}: training: {field_name}")
    methods = chosen("methods", cards)
    mixtures = plain.get("mixtures", 0)
    if not isinstance(mixtures, int):
        raise AutopeftError(f"{file}: mixtures: give the most methods in a mixture, such as 3, not '{mixtures}'.")
    own = {each: hybrids[each] for each in chosen("hybrids", hybrids)}
    first = tuple(_first(each, methods, cards, file) for each in plain.get("first", ()))
    return Space(name, str(plain.get("summary", "")).strip(), cards, methods, own, mixtures, training, first=first)


def _first(plain: Any, methods: tuple[str, ...], cards: Mapping[str, Card], file: Path) -> Mapping[str, Any]:
    """Draws that a space names: of a method, its settings and its training. Raises AutopeftError."""
    method = plain.get("method") if isinstance(plain, Mapping) else None
    if method not in methods:
        raise AutopeftError(f"{file}: first: {unknown('method', str(method), methods)}")
    known = {**cards[method].settings, **cards[method].training}
    draws = {"method": method}
    for name, value in plain.items():
        if name == "method":
            continue
        if name not in known:
            raise AutopeftError(f"{file}: first: {method}: {unknown('setting', str(name), known)}")
        if not (known[name].varies and known[name].holds(frozen(value))):
            raise AutopeftError(f"{file}: first: {method}: {name} is not drawn as {label(frozen(value))}.")
        draws[f"{method}.{name}"] = label(frozen(value))
    return draws
