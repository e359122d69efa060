"""The same contract as on Ray, in this process."""

import os
from pathlib import Path

import pytest

from autopeft.errors import AutopeftError
from autopeft.searching.here import train_here
from autopeft.trial import Status
from tests.searching.toys import FaultyLedger, ToyLedger, ToyWorker, broken_worker, trial


def test_every_trial_reaches_its_rungs_and_one_outcome_on_one_worker() -> None:
    ledger = ToyLedger([trial(1), trial(2, "fail"), trial(3)])
    train_here(ledger, ToyWorker)
    assert ledger.statuses() == {1: [Status.FINISHED], 2: [Status.FAILED], 3: [Status.FINISHED]}
    assert ledger.heard == [(number, step) for number in (1, 2, 3) for step in (1, 2, 3)]
    assert [ledger.outcomes[number][0].facts["before"] for number in (1, 2, 3)] == [0, 1, 2]


def test_a_trial_that_the_ledger_stops_is_closed_at_once(tmp_path: Path) -> None:
    stopped = trial(1, "leave a mark")
    stopped.candidate.parts[0].settings["file"] = tmp_path / "mark"  # type: ignore[index]
    ledger = ToyLedger([stopped], stops=frozenset({1}))
    train_here(ledger, ToyWorker)
    assert ledger.statuses() == {1: [Status.STOPPED]}
    assert ledger.outcomes[1][0].facts == {"process": os.getpid()}
    assert ledger.heard == [(1, 1)]
    assert (tmp_path / "mark").read_text() == "closed"


def test_a_search_ends_where_its_only_process_cannot_train_any_more() -> None:
    ledger = ToyLedger([trial(1), trial(2, "break the device"), trial(3)])
    with pytest.raises(AutopeftError, match=r"error of trial 2, .*: break the device\. .*`autopeft resume` goes on"):
        train_here(ledger, ToyWorker)
    assert ledger.statuses() == {1: [Status.FINISHED], 2: [Status.FAILED]}


def test_faults_come_out_unchanged() -> None:
    with pytest.raises(OSError, match="no space left for trial 1"):
        train_here(FaultyLedger([trial(1)]), ToyWorker)
    with pytest.raises(FileNotFoundError):
        train_here(ToyLedger([trial(1)]), broken_worker)
