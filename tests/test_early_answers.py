"""Slips that need no library to be seen are answered before one is imported that takes seconds."""

import json
import subprocess
import sys

import pytest

from autopeft.data.place import ENDINGS
from autopeft.data.reading import _READERS
from autopeft.plan import Plan
from autopeft.searching.slips import require_names
from autopeft.storage.repository import Repository
from autopeft.tasks.named import tasks
from autopeft.tasks.names import task_names
from tests.reports.records import bare, trial
from tests.test_guards import HEAVY, ROOT

SLIPS = {
    "search --model ./no-model --data reviews.csv": "there is no model folder './no-model'",
    "search --model folder --data reviews.csv": "folder' is no model folder: it holds no config.json",
    "search --model org/model --data revews.csv": "'revews.csv'. Did you mean 'reviews.csv'?",
    "search --model org/model --data ./nowhere": "there is no file or folder './nowhere'",
    "search --model org/model --data reviews.csv --space quik": "Did you mean 'quick'?",
    "search --model org/model --data reviews.csv --space folder": "folder' holds no cards",
    "search --model org/model --data reviews.csv --methods lorra": "Did you mean 'lora'?",
    "search --model org/model --data reviews.csv --task text-clasification": "Did you mean 'text-classification'?",
    "search --model org/model --data reviews.csv --task my_tsk.py:MyTask": "/my_task.py'?",
    "search --model org/model --data reviews.csv --task my_task.py:MyTsk": "Did you mean 'MyTask'?",
    "search --model org/model --data reviews.csv --task my_task.py": "names no code: write my_task.py:NAME",
    "search --model org/model --data reviews.csv --task broken.py:MyTask": "broken.py' is no Python in line 2",
    "search --model org/model --data reviews.csv --task mine.tasks:MyTask": "Python finds no module 'mine.tasks'",
    "search --model org/model --data reviews.csv --metric my_task.py:scor": "Did you mean 'score'?",
    "search --model org/model --data reviews.csv --metric score.py": "names no code: write my_metric.py:NAME",
    "resume bare --task my_task.py:MyTask": "search 'bare' has the task 'auto'; for another one",
    "confirm bare --metric my_task.py:score": "search 'bare' has the metric 'auto'; for another one",
    "export bare 1 --to winner --task my_task.py:MyTask": "search 'bare' has the task 'auto'; for another one",
    "search --model org/model --data reviews.csv --sampler known": "Did you mean 'known_costs'?",
    "search --model org/model --data reviews.csv --objectives acuracy": "Did you mean 'accuracy'?",
    "search --model org/model --data reviews.csv --memory 8": "memory: 8 bytes? Write 8GiB.",
    "search --plan no-plan.yaml": "cannot read the plan 'no-plan.yaml'",
    "resume bear": "Did you mean 'bare'?",
    "resume bare": "reached its limits already",
    "resume bare --trials 1": "search 'bare' has a trial already",
    "resume bare --time 2": "time: 2 seconds? Write 2h or 2m or 2s.",
    "confirm bear": "Did you mean 'bare'?",
    "confirm bare --model ./no-model": "there is no model folder './no-model'",
    "confirm bare --data ./nowhere.csv": "there is no file or folder './nowhere.csv'",
    "confirm bare --data reviews.csv --space ./no-cards": "unknown space './no-cards'",
    "report bear": "Did you mean 'bare'?",
    "report bare --format htm": "unknown report format 'htm'. Did you mean 'html'?",
    "select bear": "Did you mean 'bare'?",
    "select bare --memory 8": "memory: 8 bytes? Write 8GiB.",
    "export bear 1 --to winner": "Did you mean 'bare'?",
    "export bare 9 --to winner": "search 'bare' has no trial 9",
    "export bare 1 --to winner --model ./no-model": "there is no model folder './no-model'",
    "delete bear --yes": "Did you mean 'bare'?",
    "methods lorra": "Did you mean 'lora'?",
    "estimate --model ./no-model": "there is no model folder './no-model'",
    "estimate --model org/model --space quik": "Did you mean 'quick'?",
    "estimate --model org/model --memory 8": "memory: 8 bytes? Write 8GiB.",
}
"""What is typed, and part of the answer."""
PROGRAM = """
import json, sys
from click.testing import CliRunner
from autopeft.cli import main
heavy, slips = set(json.loads(sys.argv[1])), json.loads(sys.argv[2])
told = {}
for slip in slips:
    result = CliRunner().invoke(main, slip.split())
    told[slip] = [result.exit_code, result.stderr, sorted(heavy & set(sys.modules))]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """Exit code, answer, and the heavy libraries imported so far, by what was typed; all in one process."""
    place = tmp_path_factory.mktemp("place")
    (place / "folder").mkdir()
    (place / "my_task.py").write_text("import no_module\nclass MyTask: ...\ndef score(expected, predicted): ...\n")
    (place / "broken.py").write_text("class MyTask:\nnothing\n")
    (place / "reviews.csv").write_text("text,label\nfine,good\n")
    with Repository(f"sqlite:///{place}/autopeft.db") as repository:
        repository.create(bare(trial(1)))
    heavy = json.dumps(sorted(HEAVY - {"sqlalchemy"}))  # Which reads what a search is named, in a moment.
    command = [sys.executable, "-c", PROGRAM, heavy, json.dumps(list(SLIPS))]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, tuple[int, str, list[str]]] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_answered_before_heavy_libraries_are_imported(
    slip: str, answers: dict[str, tuple[int, str, list[str]]]
) -> None:
    code, told, imported = answers[slip]
    assert SLIPS[slip] in told
    assert (code, imported) == (2, [])


@pytest.mark.parametrize("name", ["auto", "token-classification", "TOKEN_CLS", "ner", "SEQ_CLS"])
def test_a_task_may_be_called_as_other_tools_call_it(name: str) -> None:
    require_names(Plan("some/model", "data.csv", task=name))


def test_tasks_and_kinds_of_files_are_known_without_importing_them() -> None:
    assert task_names()
    assert task_names() == {name: task.aliases for name, task in tasks().items()}
    assert set(ENDINGS) == set(_READERS)
