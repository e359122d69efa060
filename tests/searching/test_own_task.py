"""A task and a metric of a user's own, from files outside the package: searched, gone on with, confirmed, exported and
loaded, and executed only where he names them.
"""

import csv
import importlib
import io
import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

import autopeft
from autopeft.cli import main
from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.searching.commands import trusting
from autopeft.tasks import own
from autopeft.trial import Status
from tests.own import METRICS, TASK
from tests.user import user_folder

TEXTS = ["the film was good", "the book was awful"]


def run(place: Path, *arguments: object) -> Result:
    """A command in this process, in the user's folder; what its code prints shows that it was executed."""
    words = [str(each) for each in (*arguments, "--storage", f"sqlite:///{place}/searches.db")]
    return CliRunner().invoke(main, words, prog_name="autopeft", catch_exceptions=False)


def here(place: Path) -> tuple[str, ...]:
    return ("--workers", "0", "--folder", str(place / "runs"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = user_folder(tmp_path_factory.mktemp("user"))
    frame = pd.read_csv(folder / "reviews.csv")
    numbers = {"quality": 1.0 * (frame["opinion"] == "positive"), "length": frame["review"].str.len() / 10}
    frame[["review"]].assign(**numbers).to_csv(folder / "numbers.csv", index=False)
    (folder / "my_task.py").write_text(TASK)
    (folder / "my_metric.py").write_text(METRICS)
    return folder


def named(place: Path) -> tuple[str, ...]:
    return ("--task", f"{place}/my_task.py:TwoNumbers", "--metric", f"{place}/my_metric.py:far")


@pytest.fixture(scope="module")
def searched(place: Path) -> Result:
    """A search named `two`, by a function that is better where it is less."""
    paths = ("--model", place / "model", "--data", place / "numbers.csv")
    space = ("--space", "quick", "--methods", "bitfit,ia3", "--max-length", 16, "--sampler", "random")
    return run(place, "search", *paths, *space, "--trials", 2, "--name", "two", *named(place), *here(place))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in another process, whose user has named nothing yet."""
    monkeypatch.setattr(own, "_named", {})


def test_a_task_from_a_file_is_searched_and_judged_by_a_function(searched: Result, place: Path) -> None:
    assert searched.exit_code == 0, searched.stderr
    assert searched.stdout.count("executed") == 2
    assert "two-numbers: review -> quality + length" in searched.stdout
    assert "Front over far, peak memory, trainable" in searched.stdout
    assert "less is better" in searched.stdout
    assert "judged by my_metric.py:far: less is better" in searched.stderr
    opened = autopeft.open("two", storage=f"sqlite:///{place}/searches.db")
    assert [trial.status for trial in opened.trials] == [Status.FINISHED] * 2
    metric = opened.record.metric
    assert (opened.record.task, metric.name, metric.higher_is_better) == ("two-numbers", "far", False)
    assert {*opened.record.baselines} == {"both means", "linear probe"}
    for trial in opened.trials:
        assert trial.error is not None
        assert {*trial.others} == {"worst", "mse"}
        assert 0 < trial.others["worst"] < trial.others["mse"]


@pytest.mark.usefixtures("searched", "elsewhere")
def test_reports_show_the_other_metrics_and_execute_nothing(place: Path) -> None:
    whole = run(place, "report", "two", "--format", "json")
    trial = json.loads(whole.stdout)["trials"][0]
    assert {*trial["others"]} == {"worst", "mse"}
    row = next(csv.DictReader(io.StringIO(run(place, "report", "two", "--format", "csv").stdout)))
    assert float(row["other.mse"]) == trial["others"]["mse"]
    assert "; worst 0." in run(place, "report", "two", "--format", "html").stdout
    told = run(place, "select", "two", "--trainable", "100k").stdout
    assert re.search(r"\n  worst +0\.\d+ ± 0\.\d+\n  mse +0\.\d+ ± 0\.\d+\n", told)
    assert f"--task {place}/my_task.py:TwoNumbers" in told
    assert run(place, "list").exit_code == 0
    assert run(place, "report", "two").exit_code == 0


@pytest.mark.usefixtures("searched", "elsewhere")
@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        (("resume", "two", "--trials", 3), (), "say --task here, too"),
        (("resume", "two", "--trials", 3), ("--task",), "say --metric here, too"),
        (("confirm", "two"), (), "say --task here, too"),
        (("export", "two", 1, "--to", "nowhere"), (), "say --task here, too"),
    ],
)
def test_what_a_database_names_is_not_executed(place: Path, command: Any, given: Any, said: str) -> None:
    options = {"--task": named(place)[:2]}
    told = run(place, *command, *(each for name in given for each in options[name]))
    assert told.exit_code == 2
    assert said in told.stderr
    assert "executed" not in told.stdout + told.stderr


@pytest.mark.usefixtures("searched", "elsewhere")
def test_a_strangers_database_gets_no_code_of_its_choice_executed(place: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    (tmp_path / "evil.py").write_text(f"open({str(proof)!r}, 'w')\n{TASK}")
    shutil.copy(place / "searches.db", tmp_path / "searches.db")
    for task, metric in (
        (f"{tmp_path}/evil.py:TwoNumbers", "auto"),
        ("auto", f"{tmp_path}/evil.py:far"),
        ("os:system", "os:system"),
    ):
        with closing(sqlite3.connect(tmp_path / "searches.db")) as connection, connection:
            (plan,) = connection.execute("SELECT plan FROM searches").fetchone()
            changed = json.dumps({**json.loads(plan), "task": task, "metric": metric})
            connection.execute("UPDATE searches SET plan = ?", (changed,))
        for command in (("resume", "two", "--trials", 3), ("confirm", "two")):
            told = run(tmp_path, *command, *here(place))
            assert told.exit_code == 2
            assert "is code of your own" in told.stderr
        assert run(tmp_path, "report", "two").exit_code == 0
        assert run(tmp_path, "select", "two").exit_code == 0
    told = run(tmp_path, "resume", "two", "--trials", 3, "--task", place / "my_task.py:TwoNumbers")
    assert "has the task 'system'; for another one" in told.stderr
    assert not proof.exists()


@pytest.mark.usefixtures("searched", "elsewhere")
def test_a_search_is_gone_on_with_and_confirmed_where_its_code_is_named_again_and_lies_elsewhere_now(
    place: Path, tmp_path: Path
) -> None:
    for file in ("my_task.py", "my_metric.py"):
        shutil.copy(place / file, tmp_path / file)
    moved = ("--task", tmp_path / "my_task.py:TwoNumbers", "--metric", tmp_path / "my_metric.py:far")
    more = run(place, "resume", "two", "--trials", 3, *moved, *here(place))
    assert more.exit_code == 0, more.stderr
    opened = autopeft.open("two", storage=f"sqlite:///{place}/searches.db")
    assert [trial.status for trial in opened.trials] == [Status.FINISHED] * 3
    assert opened.plan.task == f"{tmp_path}/my_task.py:TwoNumbers"
    told = run(place, "confirm", "two", "--seeds", 1, *named(place), *here(place))
    assert told.exit_code == 0, told.stderr
    assert "Front trained again with 1 seed, judged on 40 validation rows" in told.stdout


@pytest.mark.usefixtures("searched")
def test_a_trained_model_says_whose_code_it_needs_and_loads_where_that_is_registered(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    winner = tmp_path / "winner"
    told = run(place, "export", "two", 1, "--to", winner, *named(place)[:2])
    assert told.exit_code == 0, told.stderr
    assert 'my_task.py:TwoNumbers")\n\n  model = autopeft.load(' in told.stdout
    said = json.loads((winner / "autopeft.json").read_text())
    assert said["task"]["code"] == "my_task.py:TwoNumbers"
    assert said["metric"] == "my_metric.py:far"
    assert str(place) not in json.dumps({"task": said["task"], "metric": said["metric"]})

    monkeypatch.setattr(own, "_named", {})
    capsys.readouterr()
    with pytest.raises(
        AutopeftError, match=r"'two-numbers' is code .*\(my_task.py:TwoNumbers\), and not run .*register"
    ):
        autopeft.load(winner)
    assert "executed" not in capsys.readouterr().out
    autopeft.register(f"{place}/my_task.py:TwoNumbers")
    model = autopeft.load(winner)
    assert [len(each) for each in model.predict(TEXTS)] == [2, 2]
    assert model.description.metric == "my_metric.py:far"

    held = type(model.task)
    monkeypatch.setattr(own, "_named", {})
    autopeft.register(held)
    assert autopeft.load(winner).task == model.task


def test_a_function_that_gives_no_score_is_told_before_anything_is_trained(place: Path) -> None:
    paths = ("--model", place / "model", "--data", place / "reviews.csv", "--max-length", 16)
    metric = ("--metric", f"{place}/my_metric.py:nothing")
    told = run(place, "search", *paths, "--space", "quick", "--methods", "bitfit", *metric, *here(place))
    assert told.exit_code == 2
    assert "the metric 'my_metric.py:nothing' must give a number, or one for each row, not None." in told.stderr


def test_after_an_interruption_code_of_ones_own_is_named_once_more() -> None:
    plan = Plan("model", "data.csv", task="/a/my_task.py:MyTask", metric="my.metrics:far", objectives=("far", "memory"))
    assert trusting(plan) == {"task": "/a/my_task.py:MyTask", "metric": "my.metrics:far"}
    assert trusting(Plan("model", "data.csv", task="ner")) == {}
    assert plan.objectives == ("score", "memory")


def test_in_python_a_class_and_a_function_are_given_as_they_are(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(place)
    own_task, own_metric = importlib.import_module("my_task"), importlib.import_module("my_metric")
    settings: dict[str, Any] = {
        "model": str(place / "model"),
        "data": str(place / "numbers.csv"),
        "space": "quick",
        "methods": "bitfit",
        "max_length": 16,
        "workers": 0,
        "storage": f"sqlite:///{place}/searches.db",
        "folder": str(place / "runs"),
    }
    given = {"task": own_task.TwoNumbers, "metric": own_metric.far}
    search = autopeft.search(**settings, **given, trials=1, name="given")
    assert search.front
    assert search.plan.task == f"{place}/my_task.py:TwoNumbers"
    assert search.plan.metric == f"{place}/my_metric.py:far"
    assert type(autopeft.load(search.trial(1).save(place / "given")).task) is own_task.TwoNumbers
    for wrong, said in (({"task": own_task.TwoNumbersHead}, "is no task"), ({"metric": 5}, "a metric is a function")):
        with pytest.raises(AutopeftError, match=said):
            autopeft.search(**settings, **{**given, **wrong})
    with pytest.raises(AutopeftError, match="has the metric 'far'; for another one"):
        autopeft.open("given", storage=settings["storage"]).confirm(1, metric=own_metric.share)


@pytest.mark.usefixtures("searched", "elsewhere")
def test_a_search_is_not_gone_on_with_by_another_source_under_the_same_name(place: Path, tmp_path: Path) -> None:
    """Nor by a function of the other direction, which even a record without fingerprints tells apart."""
    shutil.copy(place / "searches.db", tmp_path / "searches.db")
    for file in ("my_task.py", "my_metric.py"):
        shutil.copy(place / file, tmp_path / file)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "my_task.py").write_text(f"{TASK}\n# changed\n")
    turned = METRICS.replace("far.greater_is_better = False", "far.greater_is_better = True")
    (tmp_path / "other" / "my_metric.py").write_text(turned)
    before = autopeft.open("two", storage=f"sqlite:///{tmp_path}/searches.db").trials
    as_it_was = {"--task": tmp_path / "my_task.py:TwoNumbers", "--metric": tmp_path / "my_metric.py:far"}
    other = {"--task": tmp_path / "other/my_task.py:TwoNumbers", "--metric": tmp_path / "other/my_metric.py:far"}
    for command in (("resume", "two", "--trials", 9), ("confirm", "two")):
        for option in as_it_was:
            given = as_it_was | {option: other[option]}
            told = run(tmp_path, *command, *(word for pair in given.items() for word in pair), *here(place))
            assert told.exit_code == 2
            assert f"the {option[2:]} 'my_{option[2:]}.py:" in told.stderr
            assert "is not the one that search 'two' began with: its source changed" in told.stderr

    with closing(sqlite3.connect(tmp_path / "searches.db")) as connection, connection:
        connection.execute("UPDATE searches SET facts = json_remove(facts, '$.own_code')")
    given = as_it_was | {"--metric": other["--metric"]}
    words = [word for pair in given.items() for word in pair]
    told = run(tmp_path, "resume", "two", "--trials", 9, *words, *here(place))
    assert told.exit_code == 2
    assert "without knowing whether the metric is still the code that the search began with" in told.stderr
    assert "of far, more is better now, but less was when search 'two' began" in told.stderr
    assert autopeft.open("two", storage=f"sqlite:///{tmp_path}/searches.db").trials == before


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        pytest.param(
            "1 / 0",
            r"TwoNumbers\.described, line \d+ of slips\.py: ZeroDivisionError: division by zero",
            marks=pytest.mark.long,
        ),
        ("raise SystemExit(0)", r"TwoNumbers\.described, line \d+ of slips\.py: SystemExit: 0"),
    ],
)
def test_a_slip_in_a_task_ends_a_search_with_a_sentence(place: Path, slip: str, said: str) -> None:
    (place / "slips.py").write_text(TASK.replace('return ("two numbers",)', slip))
    paths = ("--model", place / "model", "--data", place / "numbers.csv", "--max-length", 16, "--name", "slips")
    small = ("--space", "quick", "--methods", "bitfit")
    told = run(place, "search", *paths, *small, "--task", f"{place}/slips.py:TwoNumbers", *here(place))
    assert told.exit_code == 2
    assert re.search(f"the task 'slips.py:TwoNumbers' fails in {said}", told.stderr)
