"""What a device has free is the limit where nobody said one."""

import pytest
import torch

from autopeft.costs import estimate as module
from autopeft.costs.room import CONTEXT, MARGIN, free_here, limit_of
from tests.tiny import CONFIGS

GIB = 1024**3


@pytest.mark.parametrize(
    ("asked", "free", "limit"),
    [
        (None, None, None),
        (8 * GIB, None, 8 * GIB),
        (8 * GIB, 4 * GIB, 8 * GIB),
        (None, CONTEXT + round(10 * GIB * MARGIN), 10 * GIB),
        (None, CONTEXT // 2, 0),
    ],
)
def test_what_was_asked_for_counts_else_what_fits_into_what_is_free(
    asked: int | None, free: int | None, limit: int | None
) -> None:
    assert limit_of(asked, free) == limit


def test_the_fullest_gpu_tells_and_none_does_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert free_here() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: ((7 - device) * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: GIB)
    assert free_here() == 7 * GIB


def test_an_estimate_on_a_gpu_tells_what_fits_without_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_space", lambda name, load=module.load_space: load(name).only(("lora",)))
    monkeypatch.setattr(module, "free_here", lambda: 4 * GIB)
    (lora,) = module.estimate(CONFIGS["bert"](), batch_size=2, length=16)
    assert lora.largest == {"batch_size": 1024, "rank": 48}
