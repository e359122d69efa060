"""Code of a user's own by reference: found, executed where he names it, and what it lacks is told."""

import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

import autopeft
from autopeft.errors import AutopeftError
from autopeft.tasks import own
from autopeft.tasks.named import own_task, read_task, task_named
from autopeft.tasks.text_classification import TextClassification
from autopeft.tasks.text_regression import TextRegression
from tests.own import METRICS, TASK


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(own, "_named", {})
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        if name.startswith(("my_task", "my_metric", "mine")):
            del sys.modules[name]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_task.py").write_text(TASK)
    (tmp_path / "my_metric.py").write_text(METRICS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Named(TextClassification):
    """A user's own kind of a task that there is."""

    name: ClassVar = "named"


def test_a_reference_is_executed_when_it_is_brought_and_known_by_its_path_from_the_root(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(own.NotNamed, match="say --task here, too, or autopeft"):
        task_named("my_task.py:TwoNumbers")
    own.require_own("my_task.py:TwoNumbers", "task")
    assert capsys.readouterr().out == ""
    kind = own.bring("my_task.py:TwoNumbers", "task")
    assert capsys.readouterr().out == "executed\n"
    assert task_named(f"{files}/my_task.py:TwoNumbers") is kind
    assert own.shown(kind) == "my_task.py:TwoNumbers"
    assert own.rooted("my_task.py:TwoNumbers") == f"{files}/my_task.py:TwoNumbers"
    assert own.rooted("mine.tasks:TwoNumbers") == "mine.tasks:TwoNumbers"


def test_a_file_that_changed_is_read_again_and_two_files_of_one_name_are_two(files: Path) -> None:
    first = own.bring("my_metric.py:share", "metric")
    (files / "my_metric.py").write_text("def share(expected, predicted):\n    return 0.0\n")
    assert own.bring("my_metric.py:share", "metric")([], []) == 0.0
    (files / "other").mkdir()
    (files / "other" / "my_metric.py").write_text("def share(expected, predicted):\n    return 1.0\n")
    assert own.bring("other/my_metric.py:share", "metric")([], []) == 1.0
    assert own.bring("my_metric.py:share", "metric")([], []) == 0.0
    assert first.__module__ != own.bring("other/my_metric.py:share", "metric").__module__


def test_an_edited_task_does_not_take_over_what_was_encoded_by_another(files: Path) -> None:
    before = own.digest(own.bring("my_task.py:TwoNumbers", "task"))
    assert before == own.digest(own.bring("my_task.py:TwoNumbers", "task"))
    (files / "my_task.py").write_text(TASK + "\n# changed\n")
    assert before != own.digest(own.bring("my_task.py:TwoNumbers", "task"))


def test_a_module_that_python_finds_is_named_like_one(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "mine").mkdir()
    (files / "mine" / "tasks.py").write_text(TASK)
    monkeypatch.syspath_prepend(files)
    kind = own.bring("mine.tasks:TwoNumbers", "task")
    assert task_named("mine.tasks:TwoNumbers") is kind
    assert own.shown(kind) == "mine.tasks:TwoNumbers"
    assert own.codes() == ()


def test_code_goes_to_another_process_without_its_file(files: Path) -> None:
    kind = own.bring("my_task.py:TwoNumbers", "task")
    task = kind(("text",), (0.5, 2.0))
    (code,) = own.codes()
    pickled = pickle.dumps(task)
    (files / "my_task.py").unlink()
    del sys.modules[code.module]
    code.define()
    there = pickle.loads(pickled)
    assert type(there) is not kind
    assert there.to_dict() == task.to_dict()
    assert code.define() is sys.modules[code.module]


def test_a_task_of_ones_own_says_so_in_plain_values_and_is_read_where_it_is_known(files: Path) -> None:
    task = own.bring(f"{files}/my_task.py:TwoNumbers", "task")(("text",), (0.5, 2.0))
    plain = task.to_dict()
    assert plain["code"] == "my_task.py:TwoNumbers"
    assert read_task(plain) == task
    with pytest.raises(AutopeftError, match="these are no values of a task 'two-numbers'"):
        read_task({**plain, "means": ["a"]})
    own._named.clear()
    for code in ("my_task.py:TwoNumbers", "os:system", 5, None, [["x"]]):
        with pytest.raises(own.NotNamed, match="is code of somebody's own"):
            read_task({**plain, "code": code})
    assert "code" not in TextClassification.sized(2).to_dict()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module\n", "line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("\nraise SystemExit(3)\n", "line 2: SystemExit: 3"),
        ("\n\n1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_cannot_be_executed_is_answered_by_its_line(files: Path, text: str, said: str) -> None:
    (files / "my_task.py").write_text(f"{text}class TwoNumbers: ...\n")
    with pytest.raises(AutopeftError, match=f"my_task.py' cannot be imported: {said}"):
        own.bring("my_task.py:TwoNumbers", "task")


def _lacking(name: str) -> type:
    """A task as `Named`, but for one thing."""
    kinds = {
        "its name": type("Odd", (TextClassification,), {"name": 5, "__dataclass_fields__": {}}),
        "another's name": type("Odd", (TextClassification,), {"name": "ner", "__dataclass_fields__": {}}),
        "metrics": type("Odd", (Named,), {"metrics": ("accuracy",), "__dataclass_fields__": {}}),
        "plain values": type("Odd", (Named,), {}),
        "methods": type("Odd", (Named.__mro__[2],), {"name": "x", "roles": {}, "metrics": (), "constant": "x"}),
    }
    return kinds[name]


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("its name", "the name of the task '.*Odd' must be a short text, not 5"),
        ("another's name", "cannot be called 'ner', as another task is"),
        ("metrics", "the metrics of the task '.*Odd' must be some of"),
        ("plain values", r"must be plain values: write @dataclass\(frozen=True\)"),
        ("methods", "Odd' lacks the methods asked, complete"),
    ],
)
def test_what_a_task_lacks_is_told(lacking: str, said: str) -> None:
    with pytest.raises(AutopeftError, match=said):
        own_task(_lacking(lacking))


def test_a_name_of_something_else_than_code_is_answered(files: Path) -> None:
    (files / "my_task.py").write_text("TwoNumbers = 5\n")
    with pytest.raises(AutopeftError, match=r"'TwoNumbers' in .* is neither a class nor a function, but 5"):
        own.bring("my_task.py:TwoNumbers", "task")
    assert own.codes() == ()


def test_a_class_inside_a_function_is_held_and_needs_no_file() -> None:
    @dataclass(frozen=True)
    class Inside(Named):
        name: ClassVar = "inside"

    reference = own.remember(own_task(Inside))
    own.require_own(reference, "task")
    assert own.bring(reference, "task") is Inside


@dataclass(frozen=True)
class Unreadable(TextRegression):
    """It has a field that no file can give back."""

    sizes: dict[str, int]

    name: ClassVar = "unreadable"


def test_fields_are_such_as_can_be_read_back() -> None:
    with pytest.raises(AutopeftError, match="has fields that cannot be read back from a file: sizes; they may be int"):
        own_task(Unreadable)


@pytest.mark.parametrize("thing", [5, "text", int, TextClassification.sized(2)])
def test_what_is_no_task_is_told(thing: object) -> None:
    with pytest.raises(AutopeftError, match=r"is no task: a task is a class|give the class TextClassification itself"):
        own_task(thing)


def test_tasks_and_metrics_are_registered_as_they_are_or_by_their_files(files: Path) -> None:
    assert autopeft.register("my_task.py:TwoNumbers") == "my_task.py:TwoNumbers"
    assert task_named(f"{files}/my_task.py:TwoNumbers").name == "two-numbers"
    autopeft.register("my_metric.py:far")
    assert own.known(f"{files}/my_metric.py:far", "metric").__name__ == "far"
    assert autopeft.register(Named) is Named
    assert task_named(own.remember(Named)) is Named
    assert read_task(Named.sized(2).to_dict()) == Named.sized(2)
    for wrong, said in (("my_metric.py:one", "must take two values"), ("my_task.py:TwoNumbersHead", "is no task")):
        with pytest.raises(AutopeftError, match=said):
            autopeft.register(wrong)
