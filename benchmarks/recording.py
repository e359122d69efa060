"""The space of recorded candidates: few methods, and of each the settings that decide about costs and accuracy, so that
two hundred candidates lie close enough together for the nearest one to answer for any (`record.py`, `surfaces.py`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Parameter, Recalled, label
from autopeft.space.space import Space, load_space

VARYING: Mapping[str, tuple[str, ...]] = {
    "adapter": ("bottleneck", "layers"),
    "bitfit": ("layers",),
    "compacter": ("bottleneck", "layers"),
    "ia3": ("sites", "layers"),
    "krona": ("factor", "layers"),
    "lora": ("rank", "sites", "layers"),
    "norm_tuning": ("layers",),
    "prefix_tuning": ("length", "layers"),
    "prompt_tuning": ("length",),
    "top_layers": ("count",),
    "vera": ("rank", "layers"),
}
"""Methods, and which of their settings vary beside the learning rate."""
BASE = "default"
"""The shipped space that this one is a part of."""
TRAINING: Mapping[str, Parameter] = {
    "epochs": Parameter(2, (1, 2, 3)),
    "batch_size": Parameter(16),
    "least_steps": Parameter(30),
}
"""Settings that differ from the shipped space's; all others are at their defaults there."""


def recording_space() -> Space:
    """What candidates are drawn from."""
    whole = load_space(BASE).only(tuple(VARYING))
    cards = {
        name: replace(
            card,
            settings=_held(card.settings, VARYING.get(name, ())),
            training=_held(card.training, ("learning_rate",)),
        )
        for name, card in whole.cards.items()
    }
    training = {**_held(whole.training, ()), **TRAINING}
    return replace(whole, cards=cards, training=training, mixture_size=0)


def combinations(space: Space) -> Iterator[Candidate]:
    """A candidate for every combination of settings, at default learning rates: costs do not depend on these."""
    for method, names in VARYING.items():
        for values in product(*(space.cards[method].settings[name].labels() for name in names)):
            settings = {f"{method}.{name}": value for name, value in zip(names, values, strict=True)}
            yield space.draw(Recalled({"method": method, **settings}))


def settings_of(candidate: Candidate) -> str:
    """What the costs of a candidate of this space depend on."""
    (part,) = candidate.parts
    return json.dumps({"method": part.method, **{name: label(part.settings[name]) for name in VARYING[part.method]}})


def costs_beside(table: Path) -> Path:
    """The table of costs that belongs to a table of candidates."""
    return table.with_suffix(".costs.csv")


def _held(parameters: Mapping[str, Parameter], varying: tuple[str, ...]) -> Mapping[str, Parameter]:
    """All others at their defaults."""
    return {name: each if name in varying else Parameter(each.default) for name, each in parameters.items()}
