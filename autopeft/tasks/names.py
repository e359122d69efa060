"""The names of all tasks, read off their files without importing them, which takes seconds."""

import ast
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_parsing = threading.Lock()


def parsed(text: str, file: str) -> ast.Module:
    """Python as a tree. Python 3.11 makes trees in one thread at a time, else it fails now and then."""
    with _parsing:
        return ast.parse(text, file)


@cache
def task_names() -> Mapping[str, tuple[str, ...]]:
    """What other tools call each task of this folder, by its name."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return dict(each for file in files for each in _names_in(parsed(file.read_text(encoding="utf-8"), str(file))))


def _names_in(module: ast.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What classes of a module are given as their `name` and `aliases`."""
    for kind in module.body:
        given = dict(_given(kind)) if isinstance(kind, ast.ClassDef) else {}
        if "name" in given:
            yield given["name"], given.get("aliases", ())


def _given(kind: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    for line in kind.body:
        match line:
            case ast.Assign([ast.Name("name" | "aliases" as what)], value):
                yield what, ast.literal_eval(value)
            case ast.AnnAssign(ast.Name("name" | "aliases" as what), _, ast.expr() as value):
                yield what, ast.literal_eval(value)
