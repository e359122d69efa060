"""What `autopeft search --demo` searches: for each demo a plan, with paths of what packages hold. No network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autopeft.cli.printing import say


@dataclass(frozen=True)
class Demo:
    """A plan without its paths."""

    settings: Mapping[str, Any]
    limits: Mapping[str, Any]
    """Of trials and of time; both give way to a given one."""
    model: Callable[[Path], Path]
    """Where the model lies, or is put into a folder."""
    data: Callable[[Path], Path]

    def plan(self, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Fields of a plan; those given come first. Files that are made go into the folder. Raises AutopeftError."""
        limits = {} if given.keys() & self.limits.keys() else self.limits
        # The data first: its package is the smaller one to miss.
        data, model = self.data(folder), self.model(folder)
        return {**self.settings, **limits, "model": str(model), "data": str(data), **given}


def _news_model(folder: Path) -> Path:  # noqa: ARG001
    from autopeft.data.demo import demo_model

    return demo_model()


def _news_data(folder: Path) -> Path:
    from autopeft.data.demo import demo_data

    return demo_data(folder)


def _chat_model(folder: Path) -> Path:
    from autopeft.data.demo import chat_model

    file, place = chat_model(), folder / "smollm2-135m-instruct"
    if not place.is_dir():
        say("Unpacking the model, once …", err=True)
    from autopeft.backbone.gguf import unpacked

    return unpacked(file, place)


def _chat_data(folder: Path) -> Path:
    from autopeft.data.demo import chat_data

    return chat_data(folder)


NEWS = "news"
DEMOS: Mapping[str, Demo] = {
    # A sampler that goes on trying all kinds: `known_costs` may narrow down to one within so few trials.
    NEWS: Demo(
        {"space": "quick", "max_length": 32, "sampler": "tpe"}, {"trials": 16, "time": "6m"}, _news_model, _news_data
    ),
    "chat": Demo(
        {"space": "quick_language", "max_length": 128}, {"trials": 10, "time": "12m"}, _chat_model, _chat_data
    ),
}
"""Every demo by name; the first one is meant where none is named."""
