"""The spaces of recorded candidates: few methods, and of each the settings that decide about costs and scores, so that
two hundred candidates lie close enough together for the nearest one to answer for any (`record.py`, `surfaces.py`).
Each is a part of a shipped space, and goes by its name.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Parameter, Recalled, label
from autopeft.space.space import Space, load_space

DEFAULT, LANGUAGE = "default", "language"
VARYING: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    DEFAULT: {
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
    },
    LANGUAGE: {
        "adapter": ("bottleneck", "layers"),
        "ia3": ("sites", "layers"),
        "lora": ("rank", "sites", "layers"),
        "miss": ("rank", "layers"),
        "norm_tuning": ("layers",),
        "prefix_tuning": ("length", "layers"),
        "prompt_tuning": ("length",),
        "top_layers": ("count",),
        "vera": ("rank", "layers"),
    },
}
"""Methods, and which of their settings vary beside the learning rate."""
TRAINING: Mapping[str, Mapping[str, Parameter]] = {
    DEFAULT: {"epochs": Parameter(2, (1, 2, 3)), "batch_size": Parameter(16), "least_steps": Parameter(30)},
    LANGUAGE: {"epochs": Parameter(1, (1, 2)), "batch_size": Parameter(8), "least_steps": Parameter(30)},
}
"""Settings that differ from the shipped space's; all others are at their defaults there."""


def recording_space(base: str = DEFAULT) -> Space:
    """What candidates are drawn from."""
    varying = VARYING[base]
    whole = load_space(base).only(tuple(varying))
    cards = {
        name: replace(
            card,
            settings=_held(card.settings, varying.get(name, ())),
            training=_held(card.training, ("learning_rate",)),
        )
        for name, card in whole.cards.items()
    }
    training = {**_held(whole.training, ()), **TRAINING[base]}
    return replace(whole, cards=cards, training=training, mixture_size=0)


def combinations(base: str = DEFAULT) -> Iterator[Candidate]:
    """A candidate for every combination of settings, at default learning rates: costs do not depend on these."""
    space = recording_space(base)
    for method, names in VARYING[base].items():
        for values in product(*(space.cards[method].settings[name].labels() for name in names)):
            settings = {f"{method}.{name}": value for name, value in zip(names, values, strict=True)}
            yield space.draw(Recalled({"method": method, **settings}))


def settings_of(candidate: Candidate, base: str = DEFAULT) -> str:
    """What the costs of a candidate of such a space depend on."""
    (part,) = candidate.parts
    varying = VARYING[base][part.method]
    return json.dumps({"method": part.method, **{name: label(part.settings[name]) for name in varying}})


def costs_beside(table: Path) -> Path:
    """The table of costs that belongs to a table of candidates."""
    return table.with_suffix(".costs.csv")


def _held(parameters: Mapping[str, Parameter], varying: tuple[str, ...]) -> Mapping[str, Parameter]:
    """All others at their defaults."""
    return {name: each if name in varying else Parameter(each.default) for name, each in parameters.items()}
