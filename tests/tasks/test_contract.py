"""What every task keeps from a user's rows to a trained model that answers: a new task is tested by its file.

What `test_base.py` asks of a task alone is asked there. `make grids` tries all methods of the space `everything`.
"""

import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from autopeft.artifacts import Description, TrainedModel, export, load, save_artifact
from autopeft.backbone.load import Backbone, load_backbone, load_skeleton
from autopeft.costs.predict import Predictor
from autopeft.data.store import Dataset, open_split, padded
from autopeft.errors import AutopeftError
from autopeft.methods.attached import Attached, attach, require_capable
from autopeft.methods.registry import configured_parts
from autopeft.searching.preparing.space import learned_of
from autopeft.searching.worker import Job
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards, load_hybrids
from autopeft.space.space import load_space
from autopeft.tasks.base import Task
from autopeft.tasks.named import read_task, tasks
from autopeft.tasks.understanding import TaskData, encoded, understand
from autopeft.training import precision
from autopeft.training.batches import evaluated_at_once
from autopeft.training.evaluation import evaluate, judged
from autopeft.training.loop import set_up, train
from autopeft.training.loss import loss_of
from autopeft.training.model import TaskModel
from autopeft.trial import Outcome, Rung, Status, Trial
from tests.methods.test_contract import MIX_THE_TEXTS_OF_A_BATCH
from tests.tasks.examples import columns_of, kind_of_model, made_for, row_of

CPU = torch.device("cpu")
CARDS = load_cards()
HYBRIDS = load_hybrids(CARDS)
DEFAULT, EVERYTHING = (load_space(name) for name in ("default", "everything"))
MOST, ROWS = 48, 12
"""Tokens of a text, and rows that are trained on at a time, of twice as many."""
REFUSED = {
    "pixel_values": {"prompt_tuning", "p_tuning"},
    "input_ids": set[str](),
    "causal": {"bitfit", "s4", "unipelt", "lily", "fourierft", "waveft"},
    "crossed": {"prompt_tuning", "p_tuning", "unipelt", "ladder", "lily"},
}
"""By what a model reads, methods that cannot be had there; the last two have more frequencies than what few heads share
has entries in the tiny decoder.
"""
KINDS = ("lora", "full", "adapter", "prefix_tuning", "prompt_tuning", "fishmask")
"""One of each way to change what a model computes."""


def methods(quick: Any) -> list[Any]:
    """Every method and hybrid there is on every task: those that are among the quick ones on every other task in turn,
    and the rest left to `make grids`.
    """
    names = sorted({*EVERYTHING.methods, *EVERYTHING.hybrids})
    often = {(task, name) for at, task in enumerate(tasks()) for name in sorted(quick)[at % 2 :: 2]}
    return [
        pytest.param(task, name, marks=() if (task, name) in often else pytest.mark.grid)
        for task in tasks()
        for name in names
    ]


@dataclass(frozen=True)
class Ready:
    """A task that was understood from rows, on its tiny model."""

    folder: Path
    data: TaskData
    backbone: Backbone
    encoded: Path

    @property
    def task(self) -> Task:
        return self.data.task

    def split(self, name: str) -> Dataset:
        return open_split(self.encoded, name)

    @property
    def description(self) -> Description:
        return Description(str(self.folder / "model"), self.task, MOST, self.backbone.fingerprint)


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)


@pytest.fixture(scope="module", params=tasks(), ids=str)
def kind(request: pytest.FixtureRequest) -> type[Task]:
    return tasks()[request.param]


@pytest.fixture(scope="module")
def ready(kind: type[Task], tmp_path_factory: pytest.TempPathFactory) -> Ready:
    folder = made_for(kind, tmp_path_factory.mktemp("task"))
    data, backbone = understand(str(folder / "data")), load_backbone(str(folder / "model"), causal=kind.causal)
    data = replace(data, task=data.task.on(backbone))
    return Ready(folder, data, backbone, encoded(data, backbone, MOST, folder / "encoded"))


def candidate(name: str, **training: Any) -> Candidate:
    """A method or a hybrid at its defaults, with which two steps are trained."""
    given = {"batch_size": ROWS, "epochs": 1.0, "head_start": "random", **training}
    if name not in HYBRIDS:
        return Candidate(name, (Part(name),), Training(**given))
    own = ((part.method, {key: each.default for key, each in part.settings.items()}) for part in HYBRIDS[name].parts)
    return Candidate(name, tuple(Part(method, settings) for method, settings in own), Training(**given))


def values(backbone: Backbone) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}


def answer(call: Callable[[], object]) -> str | None:
    """What a user is told where something cannot be had, which is a sentence on one line; None where it can be."""
    try:
        call()
    except AutopeftError as error:
        said = str(error)
    else:
        return None
    assert len(said.splitlines()) == 1
    assert said.endswith(".")
    return said


def test_its_rows_are_known_for_it_and_come_back_as_they_were(ready: Ready, kind: type[Task]) -> None:
    data = ready.data
    assert type(data.task) is kind
    assert data.columns == columns_of(kind)
    assert [len(data.splits[name]) for name in ("train", "validation")] == [2 * ROWS, ROWS]
    assert all(line == line.strip() != "" for line in data.described())
    assert read_task(ready.task.to_dict()) == ready.task
    assert understand(str(ready.folder / "data"), task=kind.name).fingerprint == data.fingerprint
    for name, rows in data.splits.items():
        made, held = ready.task.encode(rows, ready.backbone, MOST), ready.split(name)
        assert not ready.task.lost(rows, made)
        one, other = made.batch(np.arange(len(made))), held.batch(np.arange(len(held)))
        assert one.keys() == other.keys() == ready.task.shapes(MOST).keys() | {"token_type_ids"} & one.keys()
        assert all(torch.equal(one[each], other[each]) for each in one)


def deep(levels: int = 3000) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


ODD: dict[str, Any] = {
    **{repr(each): each for each in (None, np.nan, np.inf, pd.NA, pd.NaT, "", " \t", "\0", "\ud800", "a" * 3000)},
    **{repr(each): each for each in (True, -7, 10**400, [], [None], [[]], [1], ["", None], {}, {"a": 1}, b"", b"\xff")},
    "a date": datetime.date(2020, 1, 1),
    "an array": np.zeros(3),
    "an object": object(),
    "a deep list": deep(),
}


@pytest.mark.parametrize("cell", ODD.values(), ids=ODD)
def test_an_empty_or_a_broken_cell_is_answered_with_its_row_or_can_be_learned(
    kind: type[Task], cell: Any, ready: Ready
) -> None:
    """What a test split may hold are the rows that can be read; what lies in a file is read later."""
    columns = columns_of(kind)
    for role in columns:
        rows = [row_of(kind, number, ready.folder / "data") for number in range(9)]
        rows[2][columns[role][0]] = cell
        frame = pd.DataFrame(rows, dtype=object)
        complete = [*ready.task.complete(frame, columns).index]
        said = answer(lambda frame=frame: ready.task.rows(frame, columns, "train"))
        if said is not None:
            assert "row 3" in said
            assert "of the train split" in said
            assert complete == [0, 1, *range(3, 9)]
            assert len(ready.task.rows(frame.loc[complete], columns, "test")) == 8
        else:
            assert complete == [*range(9)]
            found = ready.task.rows(frame, columns, "train")
            said = answer(lambda found=found: ready.task.encode(found, ready.backbone, MOST))
            assert said is None or "row 3 of the train split" in said
        assert len(answer(lambda frame=frame: kind.understand(frame, columns)) or "") < 400


def test_whatever_a_trained_model_is_asked_it_answers_or_says_why_not(ready: Ready) -> None:
    head = ready.task.new_head(ready.backbone.sites.width, Training())
    model = TrainedModel(ready.backbone, None, head, ready.description)
    for given in ODD.values():
        for asked, many in ((given, False), ([given], True), ((given,), False), ([given, given], True)):
            said = answer(lambda asked=asked: model.predict(asked))
            assert said is None or len(said) < 1200
            if said is None and many and isinstance(given, str):
                assert len(model.predict(asked)) == len(asked)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_few_rows_are_answered(kind: type[Task], rows: int, ready: Ready, tmp_path: Path) -> None:
    lines = [json.dumps(row_of(kind, number, ready.folder / "data")) + "\n" for number in range(rows)]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    for task in ("auto", kind.name):
        assert answer(lambda task=task: understand(str(tmp_path), task=task))


def begun(ready: Ready, wanted: Candidate) -> tuple[TaskModel, Attached]:
    """The methods attached and a head beside them, always the same. Raises CannotAttach."""
    torch.manual_seed(0)
    parts = configured_parts(wanted.parts, CARDS)
    require_capable(parts, ready.task.needs)
    attached = attach(ready.backbone.model, parts, ready.backbone.sites)
    head = ready.task.new_head(ready.backbone.sites.width, wanted.training)
    return TaskModel(ready.backbone.model, head, attached, ready.task.inputs, ready.backbone.output), attached


@pytest.mark.parametrize(("kind", "name"), methods({*DEFAULT.methods, *DEFAULT.hybrids}), indirect=["kind"])
def test_every_method_trains_two_steps_or_is_refused_with_a_reason(ready: Ready, name: str) -> None:
    wanted, before = candidate(name), values(ready.backbone)
    data, metric = ready.split("train"), ready.task.metric("auto")
    if name in REFUSED[kind_of_model(type(ready.task))]:
        assert answer(lambda: begun(ready, wanted))
    else:
        model, attached = begun(ready, wanted)
        with attached:
            set_up(model, data, seed=0, device=CPU)
            trained = [*attached.parameters(), *model.head.parameters()]
            model.train()
            batch = data.batch(np.arange(ROWS))
            loss_of(model, batch, CPU, model.head.count(batch)).backward()
            assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in trained)
            start = [each.detach().clone() for each in trained]
            model.zero_grad()
            curve = [*train(model, data, ready.split("validation"), wanted, metric, seed=0, device=CPU)]
            assert [curve[-1].step, curve[-1].steps] == [2, 2]
            assert np.isfinite([curve[-1].score, curve[-1].error, curve[-1].loss]).all()
            assert any(not torch.equal(*each) for each in zip(trained, start, strict=True))
    assert all(torch.equal(before[key], tensor) for key, tensor in values(ready.backbone).items())


@pytest.mark.parametrize(("kind", "name"), methods(KINDS), indirect=["kind"])
def test_what_a_row_is_answered_depends_on_the_row_alone_and_not_on_saving_nor_on_merging(
    ready: Ready, name: str, tmp_path: Path
) -> None:
    wanted, rows = candidate(name, pooling="mean"), ready.data.splits["validation"].inputs
    if name in REFUSED[kind_of_model(type(ready.task))]:
        pytest.skip("refused")
    model, attached = begun(ready, wanted)
    set_up(model, ready.split("train"), seed=0, device=CPU)
    with attached, torch.no_grad():
        for tensor in (*attached.parameters(), *model.head.parameters()):
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel())))
        living = TrainedModel(ready.backbone, attached, model.head, ready.description)
        attached.settle()
        together, alone = outputs(living, rows, ROWS), outputs(living, rows, 1)
        save_artifact(tmp_path / "trained", attached, model.head, ready.description, wanted)
        merges = all(part.mergeable for part in attached.parts)
    assert len(together) == len(alone) == len(rows)
    same = all(torch.allclose(*each, atol=1e-4) for each in zip(together, alone, strict=True))
    assert same == (name not in MIX_THE_TEXTS_OF_A_BATCH)
    again = load(tmp_path / "trained")
    assert all(torch.equal(*each) for each in zip(outputs(again, rows, ROWS), together, strict=True))
    folder = export(tmp_path / "trained", tmp_path / "given", merge=merges)
    given = outputs(load(folder), rows, ROWS)
    assert all(torch.allclose(*each, atol=1e-3) for each in zip(given, together, strict=True))


def outputs(model: TrainedModel, rows: Sequence[Any], at_once: int) -> list[Tensor]:
    """What of the head's output belongs to each row."""
    batches = model.outputs(rows, at_once, precision.FLOAT32)
    return [part for output, batch, some in batches for part in model.task.parts(output, batch, some)]


SELECT = {"fishmask", "far", "shira"}
"""Predicted as if what they select lay everywhere: they never need more."""


def whole() -> list[tuple[str, str]]:
    """Every method on one task of each kind of model, and one method of each kind on all others."""
    first = {kind_of_model(task): name for name, task in reversed(tasks().items())}.values()
    names = sorted({*EVERYTHING.methods, *EVERYTHING.hybrids})
    return [(task, name) for task in tasks() for name in (names if task in first else KINDS)]


@pytest.mark.grid
@pytest.mark.parametrize(("kind", "name"), whole(), indirect=["kind"])
def test_a_whole_trial_costs_what_was_predicted_and_its_artifact_answers_as_it_did(
    ready: Ready, name: str, tmp_path: Path
) -> None:
    wanted, data = candidate(name), ready.split("train")
    length, longest = (padded(int(ready.split(split).lengths.max())) for split in ("train", "validation"))
    skeleton = load_skeleton(str(ready.folder / "model"), causal=ready.task.causal)
    learned = learned_of(ready.task, ready.split("train"), ready.split("validation"))
    predictor = Predictor(skeleton, CARDS, ready.task, length, CPU, longest=max(length, longest), learned=learned)
    refused = predictor.unfitness(wanted)
    assert (refused is not None) == (name in REFUSED[kind_of_model(type(ready.task))])
    if refused is not None:
        return
    predicted = predictor.predict(wanted)
    worker = Job(str(ready.folder / "model"), ready.description, ready.encoded, tmp_path, tmp_path / "out", CARDS, "")()
    *curve, outcome = worker.train(Trial(1, wanted, predicted, {}, seed=0))
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.reason) == (Status.FINISHED, "")
    measured = outcome.measured
    assert measured is not None
    assert (predicted.trainable, predicted.stored) == (measured.trainable, measured.stored)
    if name in SELECT:
        assert measured.memory < predicted.memory * 1.03
    else:
        assert predicted.memory == pytest.approx(measured.memory, rel=0.03)
    again = load(tmp_path / "out" / "0001")
    found = evaluate(again.model, ready.split("validation"), CPU, evaluated_at_once(wanted.training, data.lengths))
    assert judged(ready.task.metric("auto"), found.statistics) == outcome.answers
    assert isinstance(last := curve[-1], Rung)
    assert outcome.answers is not None
    assert (last.score, last.error) == (outcome.answers.score, outcome.answers.error)
