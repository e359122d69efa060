"""bf16 is used where the hardware has it, and nowhere else."""

from unittest.mock import patch

import pytest
import torch

from autopeft.backbone.quantised import FORMATS, Packed, pack
from autopeft.methods.attached import attach
from autopeft.methods.registry import configured_parts
from autopeft.space.cards import load_cards
from autopeft.tasks.metrics import ACCURACY
from autopeft.training import precision
from autopeft.training.loop import train
from autopeft.training.model import TaskModel
from autopeft.training.precision import autocast, has_bf16, held_as, is_emulated, precision_of, scaler_of
from tests.tiny import tiny
from tests.training.data import TASK
from tests.training.test_loop import LORA, TRAIN, VALIDATION

CPU = torch.device("cpu")


@pytest.mark.parametrize(("avx", "amx"), [(False, False), (True, False), (False, True)])
def test_a_processor_with_bf16_trains_in_bf16(avx: bool, amx: bool) -> None:
    with (
        patch("torch.cpu._is_avx512_bf16_supported", return_value=avx),
        patch("torch.cpu._is_amx_tile_supported", return_value=amx),
        autocast(CPU),
    ):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert has_bf16(CPU) == (avx or amx)
    assert product.dtype == (torch.bfloat16 if avx or amx else torch.float32)


def test_a_gpu_that_only_emulates_bf16_does_not_train_in_it() -> None:
    with patch("torch.cuda.is_bf16_supported", return_value=False) as asked:
        assert not has_bf16(torch.device("cuda"))
    asked.assert_called_once_with(including_emulation=False)


@pytest.mark.parametrize("native", [True, False])
def test_beside_quantised_matrices_a_cpu_computes_in_what_it_is_quick_in(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda _: native)
    quick = torch.bfloat16 if native else torch.float32
    assert held_as("nf4", CPU) == held_as("int8", CPU) == quick
    assert held_as("nf4", torch.device("cuda")) == held_as("nf4") == torch.bfloat16
    assert is_emulated(torch.bfloat16, CPU) != native
    assert not is_emulated(torch.float32, CPU)


@pytest.mark.parametrize("format", FORMATS)
def test_quantised_matrices_are_the_same_in_whatever_they_are_computed(format: str) -> None:
    pytest.importorskip("bitsandbytes")
    models = {dtype: tiny("bert").to(dtype) for dtype in (torch.float32, torch.bfloat16)}
    for model in models.values():
        pack(model, format)
    layers = {dtype: [each for each in model.modules() if isinstance(each, Packed)] for dtype, model in models.items()}
    for exact, rounded in zip(*layers.values(), strict=True):
        assert torch.equal(exact.codes, rounded.codes)
        assert (exact.weight.dtype, rounded.weight.dtype) == (torch.float32, torch.bfloat16)
        assert torch.allclose(exact.weight, rounded.weight.float(), rtol=2**-6)


def test_fp16_is_trained_with_a_scaled_loss_and_steps_that_overflow_are_left_out() -> None:
    rungs = []
    for dtype in (torch.float16, torch.float32):
        torch.manual_seed(7)
        with attach(tiny("bert").to(dtype), configured_parts(LORA.parts, load_cards())) as attached:
            made = TaskModel(attached.model, TASK.new_head(48, LORA.training), attached)
            assert scaler_of(CPU, precision_of(CPU, made.held)).is_enabled() == (dtype == torch.float16)
            rungs.append([*train(made, TRAIN, VALIDATION, LORA, ACCURACY, seed=1, device=CPU)][-1])
    assert rungs[0].score == pytest.approx(rungs[1].score, abs=0.1)
    assert rungs[0].loss == pytest.approx(rungs[1].loss, abs=0.1)
