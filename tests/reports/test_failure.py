"""What came to nothing is told with the most common reason, and nothing else is called a failure."""

from dataclasses import replace

import pytest

from autopeft.reports.failure import failure
from autopeft.trial import SearchRecord, Status, Trial
from tests.reports.records import bare, confirmation, record, trial


def failed(number: int, reason: str) -> Trial:
    return trial(number, accuracies=(), status=Status.FAILED, reason=reason)


MEMORY = "out of memory: tried to allocate 2 GiB\nat line 3"
OUT = replace(confirmation(1), status=Status.FAILED, reason=MEMORY, validation=None, test=None)


@pytest.mark.parametrize(
    ("found", "asked", "said"),
    [
        (record(), "search", ""),
        (record(), "confirm", ""),
        (bare(), "search", "no trial was trained."),
        (
            replace(bare(), turned_away={"memory": 2}),
            "resume",
            "no trial was trained: 2 candidates turned away before training (memory 2).",
        ),
        (
            bare(failed(1, "a CUDA error"), failed(2, MEMORY), failed(3, MEMORY)),
            "search",
            "none of 3 trials is on a front; most often (2 of them): out of memory: tried to allocate 2 GiB.",
        ),
        (bare(trial(1, accuracies=(float("nan"),))), "search", "none of 1 trial is on a front."),
        (bare(trial(1), failed(2, MEMORY)), "search", ""),
        (
            replace(bare(trial(1)), confirmations=(OUT,)),
            "confirm",
            "none of 1 training of the front finished; most often (1 of them): out of memory: tried to allocate 2 GiB.",
        ),
        (replace(bare(trial(1)), confirmations=(OUT,)), "search", ""),
        (replace(bare(trial(1)), confirmations=(OUT, confirmation(1, 2))), "confirm", ""),
    ],
)
def test_what_came_to_nothing_is_told_with_the_most_common_reason(found: SearchRecord, asked: str, said: str) -> None:
    assert failure(found, asked) == said
