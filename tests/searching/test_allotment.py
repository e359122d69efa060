"""What each worker gets, as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.errors import AutopeftError
from autopeft.searching.allotment import Allotment, allot, alone, pack, part_of_device, part_of_gpu

LAPTOP = {"CPU": 2.0}
SERVER = {"CPU": 64.0, "GPU": 8.0}
HEAD = {"CPU": 4.0}
MIB, GIB = 1024**2, 1024**3


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus_per_trial", "expected"),
    [
        ([LAPTOP], None, None, Allotment(2, 1, 0)),
        ([LAPTOP], 1, None, Allotment(1, 2, 0)),
        ([LAPTOP], 2, None, Allotment(2, 1, 0)),
        ([LAPTOP], 4, None, Allotment(4, 0.5, 0)),
        ([{"CPU": 16.0}], 3, None, Allotment(3, 5, 0)),
        ([SERVER], None, None, Allotment(8, 8, 1)),
        ([SERVER], 4, None, Allotment(4, 16, 1)),
        ([SERVER], 16, None, Allotment(16, 4, 0.5)),
        ([SERVER], 20, None, Allotment(20, 3, 1 / 3)),
        ([SERVER], None, 0.25, Allotment(32, 2, 0.25)),
        ([SERVER], None, 2, Allotment(4, 16, 2)),
        ([SERVER], None, 0.4, Allotment(16, 4, 0.4)),
        ([SERVER], 2, 0, Allotment(2, 32, 0)),
        ([HEAD, SERVER, SERVER], None, None, Allotment(16, 8, 1)),
        ([{"CPU": 8.0}, {"CPU": 2.0}], 2, None, Allotment(2, 2, 0)),
        ([{"CPU": 0.0}, LAPTOP], None, None, Allotment(2, 1, 0)),
    ],
)
def test_machines_are_shared_out(
    nodes: list[dict[str, float]], workers: int | None, gpus_per_trial: float | None, expected: Allotment
) -> None:
    assert allot(nodes, workers, gpus_per_trial) == expected


def test_a_worker_has_at_least_one_thread() -> None:
    assert [Allotment(1, cpus, 0).threads for cpus in (0.5, 1, 3)] == [1, 1, 3]


@pytest.mark.parametrize(
    ("nodes", "gpus_per_trial", "answer"),
    [
        ([LAPTOP], 1, "no machine has more than 0"),
        ([SERVER], 9, "no machine has more than 8"),
        ([], None, "no machine"),
    ],
)
def test_what_cannot_be_had_is_answered(
    nodes: list[dict[str, float]], gpus_per_trial: float | None, answer: str
) -> None:
    with pytest.raises(AutopeftError, match=answer):
        allot(nodes, None, gpus_per_trial)


@pytest.mark.parametrize(
    ("memory", "device", "part"),
    [
        (0, 16 * GIB, 1 / 8),
        (GIB, 16 * GIB, 1 / 8),
        (GIB + 1, 16 * GIB, 1 / 4),
        (2 * GIB, 16 * GIB, 1 / 4),
        (4 * GIB, 16 * GIB, 1 / 2),
        (6 * GIB, 16 * GIB, 1),
        (12 * GIB, 16 * GIB, 1),
        (100 * GIB, 16 * GIB, 1),
        (6 * GIB, 80 * GIB, 1 / 8),
        (0, 4 * GIB, 1 / 4),
        (200 * MIB, 4 * GIB, 1 / 4),
        (300 * MIB, 4 * GIB, 1 / 2),
    ],
)
def test_a_trial_gets_the_smallest_part_of_a_gpu_that_holds_it(memory: int, device: int, part: float) -> None:
    assert part_of_gpu(memory, device) == part


@given(st.integers(0, 200 * GIB), st.integers(0, 200 * GIB), st.integers(GIB, 200 * GIB))
def test_more_memory_never_gets_a_smaller_part(memory: int, more: int, device: int) -> None:
    assert part_of_gpu(memory, device) <= part_of_gpu(memory + more, device)


@given(st.integers(0, 200 * GIB), st.integers(GIB, 200 * GIB))
def test_trials_of_one_size_fit_together_on_a_gpu(memory: int, device: int) -> None:
    part = part_of_gpu(memory, device)
    assert part in (1 / 8, 1 / 4, 1 / 2, 1)
    assert part == 1 or memory / part < device


@pytest.mark.parametrize(
    ("node", "memory", "expected"),
    [
        (SERVER, GIB, Allotment(64, 1, 1 / 8)),
        (SERVER, 2 * GIB, Allotment(32, 2, 1 / 4)),
        (SERVER, 4 * GIB, Allotment(16, 4, 1 / 2)),
        (SERVER, 100 * GIB, Allotment(8, 8, 1)),
        ({"CPU": 4.0, "GPU": 1.0}, GIB, Allotment(8, 0.5, 1 / 8)),
        ({"CPU": 6.0, "GPU": 1.0}, 2 * GIB, Allotment(4, 1, 1 / 4)),
        ({"CPU": 1.0, "GPU": 2.0}, 4 * GIB, Allotment(4, 0.25, 1 / 2)),
    ],
)
def test_cores_go_with_the_part_of_the_gpu(node: dict[str, float], memory: int, expected: Allotment) -> None:
    assert pack(allot([node], None, None), memory, 16 * GIB) == expected


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus_per_trial", "expected", "part"),
    [
        ([LAPTOP], 2, None, Allotment(1, 2, 0), 1 / 2),
        ([LAPTOP], 1, None, Allotment(1, 2, 0), 1),
        ([LAPTOP], 4, None, Allotment(1, 2, 0), 1 / 4),
        ([{"CPU": 8.0}, {"CPU": 2.0}], 2, None, Allotment(1, 8, 0), 1 / 4),
        ([LAPTOP, LAPTOP], 2, None, Allotment(2, 2, 0), 1),
        ([SERVER], None, None, Allotment(8, 8, 1), 1),
        ([SERVER], 16, None, Allotment(8, 8, 1), 1 / 2),
        ([SERVER], None, 0.25, Allotment(8, 8, 1), 1 / 4),
        ([SERVER], None, 2, Allotment(4, 16, 2), 1),
        ([HEAD, SERVER], None, 0.5, Allotment(8, 8, 1), 1 / 2),
        ([{"CPU": 1.0, "GPU": 1.0}], None, 0.25, Allotment(1, 1, 1), 1 / 4),
    ],
)
def test_who_is_to_be_alone_gets_a_whole_device(
    nodes: list[dict[str, float]], workers: int | None, gpus_per_trial: float | None, expected: Allotment, part: float
) -> None:
    whole = allot(nodes, workers, gpus_per_trial)
    assert alone(whole, nodes) == expected
    assert part_of_device(whole, alone(whole, nodes)) == part
    assert part_of_device(alone(whole, nodes), alone(whole, nodes)) == 1
