"""YAML as people declare plans and cards in it, read by bounded work: plain values, or an error that names the file.

A file is short, and nested a little. Anchors may be used, but what they stand for counts each time that it is used, so
that a few hundred bytes cannot become gigabytes. A key stands once. Tags (`!!python/…`, `!!int`) mean nothing here, and
a date is a text, because no field asks for one.
"""

from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer

from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_MOST_BYTES = 256 * 1024
_MOST_CHARACTERS = 1024 * 1024
"""In all, after anchors were replaced by what they stand for; each value counts at least one."""
_MOST_LEVELS = 32
_MOST_DIGITS = 100


def read_declared(file: Path) -> Any:
    """The values in a YAML file. Raises AutopeftError, and OSError where the file cannot be read."""
    with file.open("rb") as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise AutopeftError(f"'{file}' is longer than {_MOST_BYTES // 1024} KiB; what is declared takes a few.")
    try:
        return yaml.load(content.decode("utf-8-sig"), _Loader)
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise AutopeftError(f"'{file}' is not valid YAML: {said}.") from error


class _Loader(Composer, yaml.CSafeLoader):
    """libyaml reads, several times as fast as Python would; nodes are counted as they are composed, which is before any
    value is made of them.
    """

    def __init__(self, stream: str) -> None:
        yaml.CSafeLoader.__init__(self, stream)
        Composer.__init__(self)
        self._levels = 0
        self._characters = 0
        self._sizes: dict[str, int] = {}
        """Characters that each anchor stands for, once that is known."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        anchor = event.anchor
        if isinstance(event, yaml.AliasEvent) and anchor in self.anchors and anchor not in self._sizes:
            raise _refusal(event, f"*{anchor} holds itself")
        if getattr(event, "tag", None) not in (None, "!"):
            raise _refusal(event, f"tags such as {brief(event.tag)} mean nothing here")
        if self._levels == _MOST_LEVELS:
            raise _refusal(event, f"values are nested more than {_MOST_LEVELS} levels deep")
        before = self._characters
        self._characters += self._sizes.get(anchor, 0) if isinstance(event, yaml.AliasEvent) else 1
        self._characters += len(getattr(event, "value", ""))
        if self._characters > _MOST_CHARACTERS:
            raise _refusal(event, "anchors are used so often that more is meant than anybody declares")
        self._levels += 1
        node = super().compose_node(parent, index)
        self._levels -= 1
        if anchor is not None and not isinstance(event, yaml.AliasEvent):
            self._sizes[anchor] = self._characters - before
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{brief(key.value)} stands twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag.endswith((":int", ":float")) and len(node.value) > _MOST_DIGITS:
            raise yaml.MarkedYAMLError(problem=f"{brief(node.value)} is no number", problem_mark=node.start_mark)
        return super().construct_object(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refusal(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
