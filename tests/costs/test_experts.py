"""Mixtures of experts: what is predicted is what a real step shows, and only the experts that a token goes to work."""

import pytest
import torch
import transformers as t

from autopeft.backbone.fakes import grouped_flops, grouped_shape
from autopeft.backbone.load import load_skeleton, quietly
from autopeft.costs.meter import Meter
from autopeft.costs.predict import Predictor
from autopeft.tasks.text_classification import TextClassification
from autopeft.training import precision
from tests.backbone.architectures import EXPERTS
from tests.costs.test_predict import CARDS, LENGTH, METHODS, MODES, candidate, measured
from tests.sampled import sampled
from tests.tiny import batch

CPU = torch.device("cpu")
KINDS = ("lora", "prompt_tuning", "norm_tuning", "full", "fishmask")


def real(experts: str, implementation: str = "grouped_mm") -> t.PreTrainedModel:
    with quietly(), torch.random.fork_rng():
        torch.manual_seed(0)
        return t.AutoModel.from_config(EXPERTS[experts](), experts_implementation=implementation).eval()


@pytest.mark.parametrize(
    ("experts", "method", "mode"),
    sampled(EXPERTS, KINDS, MODES, every=6),
)
def test_a_prediction_equals_the_meter_on_a_real_step(
    experts: str, method: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda _: mode == "bf16")
    wanted = candidate(*METHODS[method], gradient_checkpointing=mode == "checkpointing")
    predicted = Predictor(load_skeleton(EXPERTS[experts]()), CARDS, TextClassification.sized(2), LENGTH).predict(wanted)
    seen = measured(real(experts), wanted)
    assert predicted.memory == pytest.approx(seen.memory, rel=0.002)
    for name in ("trainable", "stored", "flops", "set_up_flops"):
        assert getattr(predicted, name) == getattr(seen, name), name


@pytest.mark.parametrize("experts", EXPERTS)
def test_operations_are_those_of_experts_that_compute_one_by_one_for_the_tokens_that_they_get(experts: str) -> None:
    counted = []
    for implementation in ("grouped_mm", "eager"):
        model = real(experts, implementation)
        with Meter(CPU) as meter:
            model(**batch()).last_hidden_state.sum().backward()
        counted.append(meter.flops)
    assert counted[0] == counted[1] > 0


@pytest.mark.parametrize(
    ("one", "other", "flops"),
    [
        ((24, 16), (3, 16, 8), 2 * 24 * 16 * 8),
        ((16, 24), (24, 8), 2 * 16 * 24 * 8),
        ((3, 8, 16), (16, 24), 2 * 8 * 16 * 24),
        ((3, 8, 16), (3, 16, 24), 2 * 3 * 8 * 16 * 24),
    ],
    ids=["rows", "inner", "columns", "batched"],
)
def test_a_grouped_product_has_the_shape_and_operations_of_its_groups(
    one: tuple[int, ...], other: tuple[int, ...], flops: int
) -> None:
    left, right = (torch.empty(shape, dtype=torch.bfloat16) for shape in (one, other))
    ends = None if len(one) == len(other) == 3 else torch.tensor([8, 16, 24], dtype=torch.int32)
    assert tuple(grouped_shape(left, right, ends)) == torch._grouped_mm(left, right, offs=ends).shape
    assert grouped_flops(left, right, ends) == flops
