"""Costs with weights held in half of fp32: predictions against the meter on real steps, and every entry alike."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch

import autopeft
from autopeft.backbone.load import load_skeleton
from autopeft.costs.predict import Predictor
from autopeft.errors import AutopeftError
from autopeft.tasks.text_classification import TextClassification
from autopeft.training import precision
from tests.costs.test_predict import CARDS, LENGTH, METHODS, candidate, headless, measured
from tests.tiny import CONFIGS

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
ASKED: Mapping[str, object] = {"batch_size": 4, "length": 16}


def steps() -> list[Any]:
    """Every other method on one of the two, in one of the dtypes; `make grids` tries all."""
    return [
        pytest.param(of, method, dtype, marks=() if place % 8 == 4 * at + 2 * half else pytest.mark.grid)
        for (at, of), (place, method), (half, dtype) in product(
            enumerate(("bert", "llama")), enumerate(METHODS), enumerate(HALF)
        )
    ]


@pytest.mark.parametrize(("architecture", "method", "dtype"), steps())
def test_a_prediction_equals_the_meter_on_a_real_step_with_weights_in_half(
    architecture: str, method: str, dtype: str
) -> None:
    if (architecture, method) == ("llama", "bitfit"):
        pytest.skip("Llama has no biases")
    if dtype == "float16" and method not in ("lora", "full", "pfeiffer", "prefix_tuning", "ladder"):
        pytest.skip("as in bf16")
    wanted, held = candidate(*METHODS[method]), HALF[dtype]
    predictor = Predictor(load_skeleton(CONFIGS[architecture](), held), CARDS, TextClassification.sized(2), LENGTH)
    predicted, real = predictor.predict(wanted), measured(headless(architecture).to(held), wanted)
    assert predicted.memory == pytest.approx(real.memory, rel=0.002)
    for part, size in real.memory_by_part.items():
        assert predicted.memory_by_part[part] == pytest.approx(size, rel=0.005, abs=0.005 * real.memory)
    for name in ("trainable", "stored", "flops", "set_up_flops"):
        assert getattr(predicted, name) == getattr(real, name), name


@pytest.mark.parametrize("method", ["lora", "adapter", "norm_tuning"])
def test_weights_take_half_the_memory_and_what_is_trained_as_much_as_in_fp32(method: str) -> None:
    config = CONFIGS["llama"]()
    full, half = (autopeft.predict(config, method, dtype=dtype, **ASKED) for dtype in ("float32", "bfloat16"))
    assert half.trainable == full.trainable
    assert half.stored == full.stored
    assert half.memory_by_part["weights"] < 0.6 * full.memory_by_part["weights"] + 4 * full.trainable


def test_a_dtype_may_be_torch_s_own_word_everywhere() -> None:
    config: Any = CONFIGS["llama"]()
    assert autopeft.Plan("model", "data", dtype=torch.bfloat16).dtype == "bfloat16"  # type: ignore[arg-type]
    named, own = (autopeft.predict(config, "lora", dtype=each, **ASKED) for each in ("bfloat16", torch.bfloat16))
    assert named == own


def test_a_model_is_measured_in_a_dtype_and_is_as_before() -> None:
    model = headless("bert")
    before = {name: each.clone() for name, each in model.state_dict().items()}
    found = autopeft.measure(model, "lora", dtype="bfloat16", **ASKED)
    assert found.memory == pytest.approx(autopeft.predict(model, "lora", dtype="bfloat16", **ASKED).memory, rel=0.002)
    assert found.memory < autopeft.measure(model, "lora", **ASKED).memory
    after = model.state_dict()
    assert all(each.dtype == torch.float32 and each.equal(before[name]) for name, each in after.items())


def test_auto_is_bf16_on_a_gpu_that_has_it_and_fp32_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for native, held, computed in ((True, torch.bfloat16, "bfloat16"), (False, torch.float32, "float16")):
        monkeypatch.setattr(precision, "has_bf16", lambda _, native=native: native)
        assert precision.held_as("auto", gpu) == held
        assert precision.precision_of(gpu, held) == computed
        assert precision.held_as("auto", cpu) == torch.float32
        assert precision.precision_of(cpu, torch.bfloat16) == "bfloat16"
    assert precision.precision_of(cpu) == "float32"


@pytest.mark.parametrize("ask", [autopeft.predict, autopeft.measure])
def test_a_dtype_that_is_none_is_answered_by_those_that_are(ask: object) -> None:
    with pytest.raises(AutopeftError, match=r"unknown dtype 'bf16'.*bfloat16"):
        ask(headless("bert"), "lora", dtype="bf16")  # type: ignore[operator]
    with pytest.raises(AutopeftError, match=r"unknown dtype 'bf16'.*bfloat16"):
        autopeft.Plan("model", "data", dtype="bf16")
