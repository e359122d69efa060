"""Which files a search keeps: trained weights of trials that may be recommended, and of those that were confirmed; and
what trials go on from that have not ended.

The others are taken away while the search goes on. Which they are follows from the record alone, and who is beaten
stays beaten: so nothing has to be remembered of it, and what a killed driver did not take away the next one does.
"""

import shutil
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from autopeft.fronts import Unbeaten, beaten
from autopeft.plan import Resources
from autopeft.searching.commands import command, hint, places, trusting
from autopeft.searching.marks import is_marked
from autopeft.searching.whereabouts import STATE, has_weights, weights_of
from autopeft.trial import SearchRecord, Trial

_KEPT = "kept"
"""The name of a fact: numbers of trials whose weights are kept, whatever beats them."""
_GOING = "beaten"
"""How names of folders end that are on their way out, so that nobody takes half of one for weights."""


def take_away(record: SearchRecord, trials: Iterable[Trial], folder: Path) -> None:
    """Removes the weights that the plan of a search does not keep, those of rungs of trials that came to nothing, and
    what trials that ended would go on from, `trials` being those of now; only in a folder that carries the mark of the
    search. What cannot be removed stays until the next call.
    """
    if not is_marked(record, folder):
        return
    trials = tuple(trials)
    ended = {trial.number for trial in trials if trial.outcome is not None}
    take_away_states(folder, ended)
    gone = {trial.number for trial in trials if trial.status.came_to_nothing}
    if record.plan.keep != "all":
        gone |= {*_given_up(record, trials)}
    _take_away(gone, folder)


class TakingAway:
    """Does the same while trials end: each is compared with those that nobody beats so far, and with no others."""

    def __init__(self, record: SearchRecord, folder: Path) -> None:
        """Begins with the trials of the record."""
        self._record, self._folder = record, folder
        self._unbeaten = Unbeaten(record.objectives, record.metric)
        for trial in record.trials:
            self._unbeaten.add(trial)
        self._gone: set[int] = set()
        """What is to be taken away, as long as it is there."""

    def __call__(self, trial: Trial) -> None:
        """A trial has ended."""
        if not is_marked(self._record, self._folder):
            return
        take_away_states(self._folder, {trial.number})
        beaten = {*self._unbeaten.add(trial)}
        if self._record.plan.keep != "all":
            self._gone |= beaten - _wanted(self._record)
        if trial.status.came_to_nothing:
            self._gone.add(trial.number)
        _take_away(self._gone, self._folder)
        self._gone = {number for number in self._gone if weights_of(self._folder, number).exists()}


def _take_away(numbers: Iterable[int], folder: Path) -> None:
    for number in numbers:
        weights = weights_of(folder, number)
        with suppress(OSError):
            weights.rename(weights.with_name(f"{weights.name}.{_GOING}"))
    for left in folder.glob(f"[0-9]*.{_GOING}"):
        shutil.rmtree(left, ignore_errors=True)


def take_away_states(folder: Path, numbers: Container[int] | None = None) -> None:
    """Removes what trials of these numbers would go on from; of all where none are given."""
    for file in folder.glob(f"[0-9]*{STATE}"):
        name = file.name.removesuffix(STATE)
        if numbers is None or (name.isdecimal() and int(name) in numbers):
            with suppress(OSError):
                file.unlink()


def why_deleted(record: SearchRecord, trial: Trial, storage: str = Resources.storage, folder: object = None) -> str:
    """Why the search did not keep the trained weights of a trial, and what to do; empty where they are there, or gone
    for another reason. `storage` and `folder` are where the search was found.
    """
    if has_weights(trial) or record.plan.keep == "all":
        return ""
    if (better := _given_up(record, record.trials).get(trial.number)) is None:
        return ""
    options = {"once_more": trial.number, **trusting(record.plan), **places(storage, folder)}
    return (
        f"the weights of trial {trial.number} were deleted, because trial {better} beats it: it is no worse in the "
        f"{record.metric.heading} and in every cost. Take trial {better}, or train this one once more: "
        f"{command('resume', record.name, **options)}{hint(storage)}"
    )


def keeping(record: SearchRecord, number: int) -> SearchRecord:
    """The record of a search that keeps the weights of a trial, whatever beats it."""
    return replace(record, facts={**record.facts, _KEPT: sorted({*record.facts.get(_KEPT, ()), number})})


def _given_up(record: SearchRecord, trials: Iterable[Trial]) -> dict[int, int]:
    """The numbers of trials whose weights are not kept, each with that of one that beats it."""
    numbers, wanted = beaten(trials, record.objectives, record.metric), _wanted(record)
    return {number: better for number, better in numbers.items() if number not in wanted}


def _wanted(record: SearchRecord) -> set[int]:
    """The numbers of trials whose weights are kept, whatever beats them."""
    return {*(each.number for each in record.confirmations), *record.facts.get(_KEPT, ())}
