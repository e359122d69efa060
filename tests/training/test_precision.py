"""bf16 is used where the hardware has it, and nowhere else."""

from unittest.mock import patch

import pytest
import torch

from autopeft.training.precision import autocast, has_bf16

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
