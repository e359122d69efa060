"""A few of the faults of `faults.py`, without Ray. `test_on_ray.py` has workers that die, hang and are spoilt,
`test_search.py` a driver that is killed with its workers.
"""

from pathlib import Path

import pytest

from autopeft.trial import Status
from tests.searching.faults import (
    RAISES,
    full_disk_of_the_database,
    full_disk_of_the_weights,
    killed_drivers,
    locked_for_a_moment,
    locked_for_long,
    misbehaving,
)
from tests.searching.place import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.mark.long
def test_a_driver_that_is_killed_again_and_again_loses_no_finished_trial_and_repeats_none(place: Path) -> None:
    survived = killed_drivers(Place(place / "driver"), kills=2, workers=0, trials=6)
    assert survived.times == 2
    assert survived.kept > 0
    assert 0 < survived.read <= survived.trials[Status.FINISHED] + survived.trials[Status.STOPPED]
    assert survived.left == 0
    assert survived.went_on <= survived.times


def test_a_full_disk_is_answered_and_the_search_goes_on_when_there_is_room(place: Path) -> None:
    assert full_disk_of_the_database(Place(place / "disk")).kept == 2


@pytest.mark.long
def test_trials_whose_weights_a_full_disk_does_not_take_are_lost_and_leave_nothing(place: Path) -> None:
    survived = full_disk_of_the_weights(Place(place / "weights"))
    if not survived.times:
        pytest.skip(survived.note)
    assert 0 < survived.read <= survived.trials[Status.FINISHED] + survived.trials[Status.STOPPED]


def test_a_database_that_stays_locked_is_answered_and_the_search_goes_on_afterwards(place: Path) -> None:
    assert locked_for_long(Place(place / "locked")).kept == 2


@pytest.mark.long
def test_a_search_waits_for_a_database_that_is_locked_for_a_moment(place: Path) -> None:
    assert locked_for_a_moment(Place(place / "waited"), seconds=1.0).times == 3


def test_methods_that_raise_or_diverge_cost_their_own_trials_only(place: Path) -> None:
    survived = misbehaving(Place(place / "raises"), 0, RAISES)
    assert survived.trials[Status.FAILED] >= 2
    assert survived.trials[Status.FINISHED] >= 1
