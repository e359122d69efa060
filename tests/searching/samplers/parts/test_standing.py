"""What a sampler knows of the trials of a search."""

from dataclasses import replace

import numpy as np

from autopeft.objectives import ACCURACY
from autopeft.searching.samplers.parts.features import Described
from autopeft.searching.samplers.parts.standing import Point, Standing
from autopeft.trial import Rung, Status, Trial
from tests.searching.toys import trial


def at(number: int, score: float, status: Status = Status.FINISHED) -> Trial:
    curve = (Rung(1, 2, score, 0.02, 1.0, 1.0), Rung(2, 2, score, 0.02, 1.0, 2.0))
    shown = curve if status is Status.FINISHED else curve[:1] if status is not Status.FAILED else ()
    return replace(trial(number), status=status, curve=shown, params={"number": number})


def standing() -> tuple[Standing, list[int]]:
    """Also the numbers of the trials that it looks at."""
    looked: list[int] = []

    def point(trial: Trial) -> Point:
        looked.append(trial.number)
        return Point(trial.params, Described({}), np.array([5.0]))

    return Standing(point, 0, ACCURACY, None), looked


def test_each_trial_that_ended_is_looked_at_once_and_those_under_way_each_time() -> None:
    mine, looked = standing()
    ended, running = [at(1, 0.5), at(2, 0.7), at(3, 0.0, Status.FAILED)], at(4, 0.9, Status.TRAINING)
    mine.hear([*ended, running])
    mine.hear([*ended, at(5, 0.6), running])
    assert looked == [1, 2, 3, 4, 5, 4]
    assert [result.gain for result in mine.results()] == [0.5, 0.7, -np.inf, 0.6, 0.9]
    assert [params["number"] for params in mine.best()] == [4, 2, 5, 1]
    assert mine.shown == 4


def test_of_thousands_the_latest_tell_and_the_best_are_varied() -> None:
    mine, _ = standing()
    ended = [at(number, 1 - number / 1000) for number in range(1, 701)]
    running = [at(number, 0.9, Status.TRAINING) for number in range(701, 1001)]
    for told in range(100, 701, 100):
        mine.hear([*ended[:told], *running])
    assert len(mine.results()) == 300
    assert [result.gain for result in mine.results()[:200]] == [1 - number / 1000 for number in range(501, 701)]
    assert [point.params["number"] for point in mine.finished()] == [*range(1, 301)]


def test_what_was_lost_may_be_tried_again() -> None:
    mine, _ = standing()
    mine.hear([at(1, 0.5), at(2, 0.9, Status.TRAINING)])
    mine.hear([at(1, 0.5)])
    assert len(mine.tried) == 1
    assert mine.shown == 1
