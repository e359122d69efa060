"""The meter against hand-counted bytes and operations, on real tensors and on fake ones."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from autopeft.costs.meter import ACTIVATIONS, GRADIENTS, OPTIMIZER, TEMPORARY, WEIGHTS, Meter

KIB = 1024


@pytest.fixture(params=["real", "fake"], autouse=True)
def tensors(request: pytest.FixtureRequest) -> Iterator[None]:
    with FakeTensorMode() if request.param == "fake" else nullcontext():
        yield


def kib(count: int = 1) -> torch.Tensor:
    return torch.zeros(count * KIB // 4)


def test_a_storage_counts_once_however_many_views_it_has() -> None:
    with Meter() as meter:
        one = kib()
        views = [one.view(16, 16), one[10:], one.view(16, 16).t(), one.detach()]
        assert meter.live == KIB
        del one
        assert meter.live == KIB
        del views
    assert meter.live == 0
    assert meter.peak == KIB


def test_what_is_freed_inside_no_longer_counts_and_the_peak_remains() -> None:
    with Meter() as meter:
        one = kib(3)
        two = one * 2
        del one
        three = two[:128] * 2
        assert meter.live == 3 * KIB + 512
    assert three.numel() == 128
    assert meter.peak == 6 * KIB


def test_in_place_work_needs_no_memory() -> None:
    with Meter() as meter:
        one = kib()
        one.add_(1).mul_(2)
        torch._foreach_mul_([one], 3.0)
        assert meter.live == meter.peak == KIB


def test_several_results_of_one_operation_all_count() -> None:
    with Meter() as meter:
        values, indices = torch.zeros(64, 4).max(dim=1)
        assert meter.live == 64 * 4 + 64 * 8
    assert len(values) == len(indices)


def test_what_was_there_before_counts_from_its_registration() -> None:
    weight, other = kib(2), kib(5)
    meter = Meter()
    meter.register([weight, weight.view(2, -1)], WEIGHTS)
    with meter:
        assert meter.live == 2 * KIB
        del weight
        assert meter.live == 0
    assert meter.peak == 2 * KIB
    assert len(other) == 5 * KIB // 4


def test_a_step_is_split_into_its_parts() -> None:
    weight = kib().requires_grad_()
    moment = kib()
    meter = Meter()
    meter.register([weight], WEIGHTS)
    meter.register([moment], OPTIMIZER)
    meter.watch_gradients([weight])
    with meter:
        squares = weight * weight
        total = squares.sum()
        total.backward()
        assert meter.live == 3 * KIB + KIB + total.nbytes
        assert weight.grad is not None
        update, total_bytes = weight.grad * 2, total.nbytes
        del squares, total, update
        assert meter.live == 3 * KIB
        weight.grad = None
        assert meter.live == 2 * KIB
    assert sum(meter.peak_by_part.values()) == meter.peak
    assert meter.peak_by_part[WEIGHTS] == meter.peak_by_part[OPTIMIZER] == KIB
    assert meter.peak_by_part[ACTIVATIONS] >= KIB + total_bytes
    assert meter.peak_by_part[GRADIENTS] + meter.peak_by_part[TEMPORARY] >= 2 * KIB


def test_gradients_accumulated_in_place_are_counted_once() -> None:
    weight = kib().requires_grad_()
    meter = Meter()
    meter.register([weight], WEIGHTS)
    meter.watch_gradients([weight])
    with meter:
        for _ in range(3):
            (weight * 2).sum().backward()
        assert meter.live == 2 * KIB
    assert weight.grad is not None


def test_nothing_is_counted_after_the_end() -> None:
    weight = kib().requires_grad_()
    with Meter() as meter:
        meter.watch_gradients([weight])
        one = kib()
    peak = meter.peak
    (weight * one).sum().backward()
    del one
    assert (meter.live, meter.peak) == (KIB, peak)


def test_operations_of_a_matrix_product_and_its_gradients() -> None:
    x, w = torch.zeros(3, 5), torch.zeros(5, 7).requires_grad_()
    with Meter() as meter:
        y = x @ w
        assert meter.flops == 2 * 3 * 5 * 7
        y.sum().backward()
    assert meter.flops == 2 * (2 * 3 * 5 * 7)


def test_operations_of_attention_are_those_of_its_two_matrix_products() -> None:
    q = torch.zeros(2, 4, 6, 8)
    with Meter() as meter, torch.no_grad():
        torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert meter.flops == 2 * (2 * 2 * 4 * 6 * 6 * 8)
