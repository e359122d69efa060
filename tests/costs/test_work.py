"""Operations and bytes of a step, and what of them grows with rows: predicted much as a real step has them, which needs
no mask where nothing is padded.
"""

from dataclasses import astuple

import pytest
import torch

from autopeft.backbone.load import load_skeleton
from autopeft.costs.meter import Meter
from autopeft.costs.predict import Predictor
from autopeft.costs.work import EVALUATION, FROZEN, SET_UP, STEP, Work
from autopeft.space.candidate import Candidate, Part, Training, Value
from autopeft.space.cards import load_cards
from autopeft.tasks.text_classification import TextClassification
from autopeft.training import precision
from autopeft.trial import Costs
from tests.costs.test_kept import LENGTH, ROWS, candidate, steps
from tests.tiny import CONFIGS

CARDS = load_cards()


@pytest.fixture(autouse=True)
def _bf16_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what this machine has: by that there are more operations or fewer."""
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)


def predicted(layers: int, wanted: Candidate, rows: int | None = None) -> Costs:
    config = CONFIGS["bert"]()
    config.num_hidden_layers = layers
    return Predictor(load_skeleton(config), CARDS, TextClassification.sized(2), LENGTH, rows=rows).predict(wanted)


@pytest.mark.parametrize("layers", [2, 10])
def test_a_steps_work_is_predicted_of_a_deep_model_by_shallow_ones(layers: int) -> None:
    wanted = candidate("lora")
    (step, evaluation), _ = steps(layers, wanted)
    for stage, spent in ((STEP, step), (EVALUATION, evaluation)):
        told = Work.of(stage, predicted(layers, wanted).work)
        assert told.flops == spent.work.flops == spent.flops
        assert told.operations == pytest.approx(spent.work.operations, rel=0.2)
        assert told.moved == pytest.approx(spent.work.moved, rel=0.2)


def test_what_grows_with_rows_doubles_with_the_batch_and_nothing_else_changes() -> None:
    lora = Candidate("lora", (Part("lora"),), Training(batch_size=2 * ROWS))
    one, two = (Work.of(STEP, predicted(2, each).work) for each in (candidate("lora"), lora))
    assert two.operations == one.operations
    assert two.flops_of_rows == pytest.approx(2 * one.flops_of_rows, rel=0.01)
    assert two.moved_of_rows == pytest.approx(2 * one.moved_of_rows, rel=0.05)
    assert two.moved - two.moved_of_rows == pytest.approx(one.moved - one.moved_of_rows, rel=0.1)


def test_weights_that_are_made_anew_in_each_step_do_not_grow_with_rows_nor_do_their_gradients() -> None:
    weights, rows = torch.ones(40, 30, requires_grad=True), torch.ones(7, 40)
    with Meter() as meter:
        meter.of_rows([rows])
        made = torch.sin(weights)
        begun = meter.work
        states = torch.relu(rows @ made)
        of_rows = meter.work - begun
        states.sum().backward()  # type: ignore[no-untyped-call]
    assert begun == Work(operations=1, moved=2 * 4 * 1200)
    assert of_rows.flops == of_rows.flops_of_rows == 2 * 7 * 40 * 30
    done = meter.work
    assert done.flops == done.flops_of_rows
    fixed = done.moved - done.moved_of_rows
    assert fixed >= 5 * 4 * 1200, "sin, and in the backward pass cos and a product, of all weights"


def test_with_gradients_accumulated_there_are_as_many_operations_for_each_piece_and_one_optimizer_step() -> None:
    whole, pieces = (
        Work.of(
            STEP, predicted(2, Candidate("lora", (Part("lora"),), Training(batch_size=8, micro_batch_size=size))).work
        )
        for size in (8, 2)
    )
    assert 3 * whole.operations < pieces.operations < 4 * whole.operations + 100
    assert pieces.flops == whole.flops


@pytest.mark.parametrize(
    ("name", "settings", "stage"),
    [("lora", {"layers": "last 50%"}, FROZEN), ("fishmask", {"samples": 32}, SET_UP)],
)
def test_stages_that_not_every_method_has_are_told(name: str, settings: dict[str, Value], stage: str) -> None:
    assert Work.of(stage, predicted(4, candidate(name, **settings)).work).flops > 0
    assert astuple(Work.of(stage, predicted(4, candidate("lora")).work)) == (0, 0, 0, 0, 0)


def test_a_calibration_takes_no_more_rows_than_there_are() -> None:
    wanted = candidate("fishmask", samples=32)
    all_, few = (Work.of(SET_UP, predicted(2, wanted, rows).work) for rows in (None, 8))
    assert few.flops == pytest.approx(all_.flops / 4, rel=0.01)
