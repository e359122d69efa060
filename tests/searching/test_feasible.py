"""A budget that nothing fits is answered before the search begins, with what would be nearest."""

from collections.abc import Mapping

import pytest

from autopeft.errors import AutopeftError
from autopeft.searching.feasible import require_something_fits
from autopeft.space.candidate import Candidate
from autopeft.space.space import load_space
from autopeft.trial import Costs

SPACE = load_space("default").only(("lora", "adapter", "bitfit"))


def predict(candidate: Candidate) -> Costs:
    """LoRA costs its rank, an adapter its bottleneck, BitFit 500; memory follows the batch size."""
    (part,) = candidate.parts
    size = part.settings.get("rank") or part.settings.get("bottleneck") or 500
    trainable = 1000 * int(str(size))
    memory = candidate.training.batch_size * (1 if candidate.training.gradient_checkpointing else 2)
    return Costs(trainable, memory * 2**20, 4 * trainable, 1)


def count(candidate: Candidate) -> Mapping[str, int]:
    costs = predict(candidate)
    return {"trainable": costs.trainable, "stored": costs.stored}


@pytest.mark.parametrize(
    "limits", [{}, {"trainable": 8_000}, {"trainable": 1_000}, {"memory": 16 * 2**20, "trainable": 4_000}]
)
def test_a_budget_that_some_setting_keeps_is_accepted(limits: dict[str, int]) -> None:
    require_something_fits(SPACE, limits, predict, count)


@pytest.mark.parametrize(
    ("limits", "answer"),
    [
        (
            {"trainable": 999},
            r"nothing in the space fits the budget \(trainable 999\)\. The nearest: lora needs .*1\.00k",
        ),
        ({"memory": 8 * 2**20}, r"memory 8\.00 MiB.*needs memory 16\.0 MiB"),
    ],
)
def test_an_impossible_budget_is_answered_with_the_nearest(limits: dict[str, int], answer: str) -> None:
    with pytest.raises(AutopeftError, match=answer):
        require_something_fits(SPACE, limits, predict, count)


@pytest.mark.parametrize("limits", [{"trainable": 8_000}, {"trainable": 999}, {"stored": 999, "memory": 2**40}])
def test_what_counting_answers_is_not_predicted(limits: dict[str, int]) -> None:
    def never(candidate: Candidate) -> Costs:
        raise AssertionError(candidate)

    if limits == {"trainable": 8_000}:
        require_something_fits(SPACE, limits, never, count)
        return
    with pytest.raises(AutopeftError, match="nothing in the space fits"):
        require_something_fits(SPACE, limits, never, count)


def test_training_settings_are_tried_out_on_one_method_only() -> None:
    predicted: list[Candidate] = []

    def noted(candidate: Candidate) -> Costs:
        predicted.append(candidate)
        return predict(candidate)

    with pytest.raises(AutopeftError):
        require_something_fits(SPACE, {"memory": 1}, noted, count)
    names = [each.name for each in predicted]
    assert names.count("bitfit") == names.count("lora") == 2
    assert names.count("adapter") > 2
