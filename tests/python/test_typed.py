"""What a type checker says to people who write against the Python interface: slips are found, the README is accepted.

mypy remembers what it made of the package, as `make types` left it.
"""

import re
import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path

import pytest

from autopeft.plan import Budget

ROOT = Path(__file__).parents[2]
MISSPELT = """
import autopeft
from autopeft import Budget

search = autopeft.search(modle="bert-base-uncased", data="train.csv")
again = autopeft.search("bert-base-uncased", "train.csv", trails=60)
other = autopeft.search("bert-base-uncased", "train.csv", trials="60")
limits = Budget(memmory="8GiB")
running = autopeft.start("bert-base-uncased", "train.csv", tiem="2h")
best = search.select(memroy="6GiB")
done = autopeft.resume("reviews", trial=90)
found = autopeft.serch("bert-base-uncased", "train.csv")
search.confirm(seed=3)
model = autopeft.load("winner/", devcie="cuda")
"""
"""A slip in every line but the first two."""
WELL_SPELT = """
import numpy as np
import torch

import autopeft

model: torch.nn.Module = torch.nn.Linear(1, 1)


class MyMethod: ...


"""
"""What README's code stands in: names that it leaves to its reader."""
LIMITS = "autopeft.Budget({})"


def as_function(number: int, block: str) -> str:
    """Code of a block by itself."""
    body = textwrap.indent(block.replace("import autopeft\n", ""), "    ")
    return f"def example_{number}() -> None:\n{body}\n"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy says of a script with slips, and of README's code."""
    folder = tmp_path_factory.mktemp("typed")
    loosely = "# mypy: allow-untyped-defs, allow-untyped-calls\n"
    (folder / "misspelt.py").write_text(MISSPELT.strip() + "\n")
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    blocks.append(LIMITS.format(", ".join(f'{each.name}="1"' for each in fields(Budget))))
    # Attributes of functions, as scikit-learn has them, are beyond mypy.
    blocks = [re.sub(r"(greater_is_better = False).*", r"\1  # type: ignore[attr-defined]", each) for each in blocks]
    (folder / "readme.py").write_text(loosely + WELL_SPELT + "\n\n".join(map(as_function, range(len(blocks)), blocks)))
    files = [str(folder / name) for name in ("misspelt.py", "readme.py")]
    asked = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary"]
    return subprocess.run([*asked, *files], capture_output=True, text=True, cwd=ROOT, check=False).stdout


def test_every_misspelt_argument_is_found(told: str) -> None:
    lines = MISSPELT.strip().splitlines()
    expected = {number for number, line in enumerate(lines, 1) if "import" not in line and line}
    found = {int(number) for number in re.findall(r"misspelt\.py:(\d+): error", told)}
    assert found == expected, told
    assert 'did you mean "model"?' in told


def test_code_of_the_readme_is_accepted(told: str) -> None:
    assert "readme.py" not in told, told
