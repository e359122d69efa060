"""Learning rates and weight decay reach the tensors that they are meant for."""

import pytest
import torch

from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.training.optimizer import learning_rate_factor, new_optimizer, parameter_groups
from tests.tiny import tiny
from tests.training.data import TASK


def test_each_method_and_the_head_have_their_own_learning_rate_and_decay() -> None:
    candidate = Candidate(
        "lora+bitfit",
        (Part("lora", {}, 2e-3, 0.1), Part("bitfit", {}, 4e-3, 0.2)),
        Training(head_learning_rate=7e-3),
    )
    with attach(tiny("bert"), [method("lora"), method("bitfit")]) as attached:  # type: ignore[list-item]
        head = TASK.new_head(48, Training())
        rates = {
            id(tensor): (group["lr"], group["weight_decay"])
            for group in parameter_groups(attached, head, candidate)
            for tensor in group["params"]
        }
        for each in attached.tensors():
            assert rates.pop(id(each.tensor)) == ((2e-3, 0.1) if each.part == 0 else (4e-3, 0.0))
        assert list(rates.values()) == [(7e-3, 0.0)] * 2
        assert {id(head.weight), id(head.bias)} == set(rates)


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup", [0.0, 0.06, 0.5, 1.0])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_learning_rate_rises_to_its_peak_and_falls_to_almost_nothing(
    steps: int, warmup: float, schedule: str
) -> None:
    factors = [learning_rate_factor(step, steps, warmup, schedule) for step in range(steps)]
    assert max(factors) == 1.0
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(1.0)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    falling = factors[factors[::-1].index(1.0) * -1 - 1 :] if steps > 1 else factors
    assert falling == sorted(falling, reverse=True)
    if warmup < 1 and steps > 1:
        assert factors[-1] <= max(2 / steps, 1 / max(1, steps - round(warmup * steps)))


def test_the_optimizer_is_adamw() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = new_optimizer([{"params": [parameter], "lr": 0.1, "weight_decay": 0.5}])
    parameter.grad = torch.zeros(2)
    optimizer.step()
    assert torch.allclose(parameter, torch.full((2,), 0.95))


def test_a_cosine_falls_slowly_at_first_and_at_the_end() -> None:
    linear, cosine = (
        [learning_rate_factor(step, 100, 0.0, each) for step in range(100)] for each in ("linear", "cosine")
    )
    assert all(one < other for one, other in zip(linear[1:50], cosine[1:50], strict=True))
    assert all(one > other for one, other in zip(linear[51:], cosine[51:], strict=True))
    assert cosine[50] == pytest.approx(0.5)
