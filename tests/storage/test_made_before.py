"""Databases and weights that earlier versions made, in a project that was moved, open, report, resume and export."""

import json
import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

import autopeft
from autopeft.errors import AutopeftError
from autopeft.events import Doing, Event
from autopeft.objectives import ACCURACY
from autopeft.reports import render
from autopeft.trial import Status
from tests.test_cli import run
from tests.user import user_folder

MADE = Path(__file__).parent / "made_by" / "fc51cea"
TEXTS = ["the film was good", "the book was awful"]
LOGITS = {
    ("finished", 4): [[-1.614292, 1.614292], [1.166831, -1.166831]],
    ("interrupted", 2): [[-1.581645, 1.581645], [1.233566, -1.233566]],
}
"""As the commit that made them gave them."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project that was `/home/somebody/project`, with its run folder under another name."""
    user_folder(tmp_path)
    with closing(sqlite3.connect(tmp_path / "autopeft.db")) as connection:
        connection.executescript((MADE / "searches.sql").read_text(encoding="utf-8"))
    shutil.copytree(MADE / "runs", tmp_path / "runs")
    return tmp_path


def opened(project: Path, name: str) -> autopeft.Search:
    return autopeft.open(name, storage=f"sqlite:///{project}/autopeft.db", folder=project / "runs")


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_a_search_made_before_opens_and_reports(project: Path, name: str) -> None:
    record = opened(project, name).record
    assert [trial.candidate.name for trial in record.trials[:3]] == ["adapter", "lora", "bitfit"]
    assert name in render(record, "terminal")
    assert name in render(record, "html")
    assert len(json.loads(render(record, "json"))["trials"]) == len(record.trials)
    assert len(opened(project, name).study().trials) == sum(trial.outcome is not None for trial in record.trials)


def test_a_search_made_before_has_the_same_numbers_and_the_errors_that_follow_from_its_rows(project: Path) -> None:
    record = opened(project, "finished").record
    assert (record.task, record.metric, record.plan.objectives) == (
        "text-classification",
        ACCURACY,
        ("score", "memory", "trainable"),
    )
    first = record.trials[0]
    assert [(rung.step, rung.score) for rung in first.curve] == [(7, 0.975), (20, 0.975), (60, 1.0)]
    assert [rung.error for rung in first.curve] == pytest.approx([math.sqrt(0.975 * 0.025 / 40)] * 2 + [0.0])
    assert first.predicted.memory_by_part["activations"] == 1_116_864
    assert (first.predicted.overhead, first.predicted.trainable) == (pytest.approx(0.32), 12_512)
    assert first.outcome is not None
    assert first.outcome.measured is not None
    assert (first.outcome.measured.memory, first.outcome.measured.overhead) == (1_452_416, None)
    fourth = record.confirmations[1].validation
    assert fourth is not None
    assert (fourth.score, fourth.rows, fourth.of_rows.mean()) == (0.975, 40, 0.975)
    assert list(np.flatnonzero(fourth.of_rows == 0)) == [35]
    assert set(record.baselines) == {"majority class", "linear probe"}
    for each in record.baselines.values():
        assert each.error == pytest.approx(math.sqrt(each.score * (1 - each.score) / 40))


@pytest.mark.parametrize(("name", "number"), LOGITS)
def test_weights_made_before_are_exported_and_answer_as_they_did(
    project: Path, tmp_path: Path, name: str, number: int
) -> None:
    search = opened(project, name)
    assert search.has_weights(number)
    with pytest.raises(AutopeftError, match=r"the model of search '.*' was '/home/somebody/.*', which is gone"):
        search.export(number, tmp_path / "winner")
    search.export(number, tmp_path / "winner", model=str(project / "model"))
    logits = autopeft.load(tmp_path / "winner").logits(TEXTS)
    assert torch.allclose(logits, torch.tensor(LOGITS[name, number]), atol=1e-4)


def test_weights_that_are_gone_are_told(project: Path, tmp_path: Path) -> None:
    search = opened(project, "finished")
    assert not search.has_weights(1)
    with pytest.raises(AutopeftError, match=r"the weights of trial 1 are gone: there is no .*/finished/0001'"):
        search.export(1, tmp_path / "winner", model=str(project / "model"))


def test_the_command_line_finds_what_was_made_before(project: Path, tmp_path: Path) -> None:
    where = ("--storage", f"sqlite:///{project}/autopeft.db", "--folder", project / "runs")
    assert "The weights of trial 1 are gone" in run("report", "finished", *where).stdout
    assert "Its weights are gone" in run("select", "finished", *where).stdout
    told = run("select", "finished", "--prefer", "stored", *where).stdout
    assert f"autopeft export finished 4 --to winner/ --folder {project / 'runs'} --storage {where[1]}" in told
    exported = run("export", "finished", 4, "--to", tmp_path / "winner", "--model", project / "model", *where)
    assert exported.exit_code == 0, exported.stderr
    assert autopeft.load(tmp_path / "winner").predict(TEXTS) == ["positive", "negative"]


def test_an_interrupted_search_made_before_is_gone_on_with_where_its_files_lie_now(project: Path) -> None:
    before, told = opened(project, "interrupted").trials, list[Event]()
    where = {"storage": f"sqlite:///{project}/autopeft.db", "folder": str(project / "runs")}
    with pytest.raises(AutopeftError, match=r"the model of search 'interrupted' was '/home/somebody/.*by --model"):
        autopeft.resume("interrupted", workers=0, **where)
    places = {"model": str(project / "model"), "data": str(project / "reviews.csv")}
    search = autopeft.resume("interrupted", workers=0, on_event=told.append, **where, **places)
    assert any(isinstance(event, Doing) and "still the one that the search began with" in event.what for event in told)
    assert [trial.number for trial in search.trials] == [1, 2, 3, 4]
    assert all(trial.status in (Status.FINISHED, Status.STOPPED) for trial in search.trials)
    assert search.trials[:2] == before[:2]
    assert search.plan.model == places["model"], "so that it need not be said again"


def test_a_search_made_before_is_confirmed_where_its_files_lie_now(project: Path) -> None:
    places = {"model": str(project / "model"), "data": str(project / "reviews.csv")}
    confirmed = opened(project, "finished").confirm(2, workers=0, **places).record.confirmations
    assert {(each.number, each.repeat, each.status) for each in confirmed} == {
        (number, repeat, Status.FINISHED) for number in (1, 4) for repeat in (1, 2)
    }
