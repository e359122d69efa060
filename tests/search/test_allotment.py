"""What each worker gets, as a table."""

import pytest

from autopeft.errors import AutopeftError
from autopeft.search.allotment import Allotment, allot

LAPTOP = {"CPU": 2.0}
SERVER = {"CPU": 64.0, "GPU": 8.0}
HEAD = {"CPU": 4.0}


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
