"""Slips in a user's own task are answered by its name, the function and the line, wherever they show."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from autopeft.cli import main
from autopeft.errors import AutopeftError
from autopeft.searching.worker import TrainingWorker
from autopeft.tasks import own
from autopeft.tasks.metrics import ACCURACY, Metric, NoScore
from autopeft.tasks.own_metric import answered
from autopeft.tasks.own_slips import slip_of, slips_told
from autopeft.tasks.text_classification import TextClassification
from autopeft.training.evaluation import counted, judged
from autopeft.trial import Outcome, Status
from tests.own import TASK

OUTPUT, BATCH = torch.zeros(4, 2), {"labels": torch.zeros(4, 2)}


@pytest.fixture
def kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A task whose head divides by zero, whose constant leaves the program, and whose probe is interrupted."""
    monkeypatch.setattr(own, "_named", {})
    text = TASK.replace("        wrong = ", "        1 / 0\n        wrong = ")
    text = text.replace("return torch.zeros(2)", 'raise SystemExit("over")')
    text = text.replace("fit_numbers(head, features, targets)", "raise KeyboardInterrupt")
    (tmp_path / "my_task.py").write_text(text)
    task = own.bring(f"{tmp_path}/my_task.py:TwoNumbers", "task")
    yield task
    del sys.modules[task.__module__]


def line_of(kind: Any, words: str) -> int:
    lines = Path(sys.modules[kind.__module__].__file__ or "").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if words in line)


def test_a_slip_is_told_by_task_function_and_line_and_its_traceback_is_kept(kind: Any) -> None:
    task = kind.sized(2)
    head = task.new_head(3, type("Training", (), {"pooling": "mean"}))
    line = line_of(kind, "1 / 0")
    with pytest.raises(AutopeftError) as raised, slips_told(kind):
        head.statistics(OUTPUT, BATCH)
    assert str(raised.value) == (
        f"the task 'my_task.py:TwoNumbers' fails in TwoNumbersHead.statistics, line {line} of my_task.py: "
        "ZeroDivisionError: division by zero."
    )
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    with pytest.raises(AutopeftError, match=r"fails in TwoNumbers.best_constant, .*SystemExit: over"), slips_told(kind):
        task.best_constant(None)


def test_what_is_no_slip_of_the_users_stays_what_it_is(kind: Any) -> None:
    with pytest.raises(KeyboardInterrupt), slips_told(kind):
        kind.sized(2).fit(None, None, None)
    for error in (ZeroDivisionError(), SystemExit(0), AutopeftError("told")):
        with pytest.raises(type(error)) as raised, slips_told(kind):
            raise error
        assert raised.value is error
    with pytest.raises(ZeroDivisionError), slips_told(None):
        raise ZeroDivisionError
    assert slip_of(ZeroDivisionError(), TextClassification) is None


@pytest.mark.parametrize(("method", "said"), [("best_constant", "SystemExit: over"), ("described", "ValueError")])
def test_a_worker_makes_an_outcome_of_it(kind: Any, method: str, said: str) -> None:
    worker: Any = TrainingWorker.__new__(TrainingWorker)
    worker._task, worker.facts, worker.spent = kind.sized(2), {}, False

    def trained(*_: Any) -> Iterator[Any]:
        yield from ()
        getattr(worker._task, method)(None)
        raise ValueError

    worker._trained = trained
    (outcome,) = worker.train(None)
    assert isinstance(outcome, Outcome)
    assert outcome.status is Status.FAILED
    assert said in outcome.reason

    def leaving(*_: Any) -> Iterator[Any]:
        yield from ()
        raise SystemExit

    worker._trained = leaving
    with pytest.raises(SystemExit):
        next(worker.train(None))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (np.ones(4), r"not one of shape \(4,\)"),
        (np.ones((3, 2)), r"not one of shape \(3, 2\)"),
        (None, "not None"),
    ],
)
def test_statistics_that_are_none_of_each_row_are_told_by_their_shape(found: Any, said: str) -> None:
    with pytest.raises(AutopeftError, match=f"must be an array with one row of numbers for each of 4 rows, {said}"):
        counted(lambda output, batch: found, OUTPUT, BATCH)  # noqa: ARG005


def test_a_task_that_does_not_tell_of_all_rows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextClassification, "compared", lambda *_: (["a"] * 4, ["a"] * 3))
    with pytest.raises(AutopeftError, match=r"must tell of 4 rows .* its method compared tells 4 and 3"):
        answered(TextClassification(("text",), ("a", "b")))(OUTPUT, BATCH)


@pytest.mark.parametrize("told", [float("nan"), float("inf"), 1e300, None])
def test_a_tasks_metric_without_a_score_is_told(told: Any) -> None:
    with pytest.raises(NoScore, match=r"the metric 'odd' gives .*, which is no score"):
        judged(Metric("odd", "odd", lambda sums: told), np.ones((5, 2)))  # noqa: ARG005
    assert judged(ACCURACY, np.ones((5, 4))).score == 1


def test_what_leaves_the_program_from_within_a_command_is_no_end_in_good_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(_: Any) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(main.commands["list"], "invoke", leave)
    told = CliRunner().invoke(main, ["list"], prog_name="autopeft")
    assert told.exit_code == 1
    assert told.stderr == "Error: code that ran within asked the program to exit (0).\n"


def test_looking_for_slips_imports_no_torch() -> None:
    looked = "import sys, autopeft.tasks.own_slips; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", looked], check=True)
