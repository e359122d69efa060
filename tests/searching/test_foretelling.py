"""What a rung tells of the end, by trainings that have ended."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from autopeft.searching.foretelling import LEAST, Foretelling, foretold
from autopeft.trial import Rung

Curve = tuple[Rung, ...]


def curve(*scores: float, loss: float = 1.0, error: float = 0.0) -> Curve:
    return tuple(Rung(step, 3, score, error, loss, float(step)) for step, score in enumerate(scores, 1))


def learned(ended: Sequence[Curve], rung: int = 0, sign: int = 1) -> Foretelling:
    told = foretold(ended, rung, sign)
    assert told is not None
    return told


STEADY = [curve(start, start + 0.05, start + 0.1) for start in np.linspace(0.5, 0.8, 12)]


def test_too_few_and_those_without_the_rung_tell_nothing() -> None:
    ended = [curve(0.5, 0.6, 0.7)] * (LEAST - 1) + [curve(0.9)] * 5
    assert foretold(ended, 0, 1) is None
    assert foretold([*ended, curve(0.5, 0.6, 0.7)], 0, 1) is not None
    assert foretold([curve(0.5, 0.6, 0.7)] * 9, 2, 1) is None, "the last rung is the end"


@pytest.mark.parametrize(("rung", "gained"), [(0, 0.1), (1, 0.05)])
def test_what_all_others_gained_is_expected_at_once(rung: int, gained: float) -> None:
    mean, deviation = learned(STEADY, rung).end(curve(0.6, 0.6), rung, 1)
    assert mean == pytest.approx(0.6 + gained, abs=0.005)
    assert deviation < 0.01


def test_the_wider_others_ended_apart_the_less_is_known() -> None:
    rng = np.random.default_rng(0)
    deviations = []
    for spread in (0.01, 0.05, 0.2):
        ended = [curve(start, start, start + 0.1 + spread * rng.normal()) for start in np.linspace(0.5, 0.8, 40)]
        deviations.append(learned(ended).end(curve(0.65), 0, 1)[1])
        assert deviations[-1] == pytest.approx(spread, rel=0.3)
    assert deviations == sorted(deviations)


def test_losses_tell_where_scores_are_all_luck_and_nothing_where_they_are() -> None:
    rng = np.random.default_rng(1)
    by_loss = [
        curve(rng.normal(0.6, 0.05), 0.6, 0.9 - loss / 5, loss=loss, error=0.05) for loss in rng.uniform(0.5, 1.5, 30)
    ]
    told = learned(by_loss)
    assert told.end(curve(0.6, loss=0.6), 0, 1)[0] > told.end(curve(0.65, loss=1.4), 0, 1)[0] + 0.05
    by_score = [
        curve(each[0].score, each[1].score, each[2].score, loss=float(rng.uniform(0.5, 1.5))) for each in STEADY
    ]
    told = learned(by_score)
    assert told.end(curve(0.75, loss=1.4), 0, 1)[0] > told.end(curve(0.6, loss=0.6), 0, 1)[0] + 0.05


@pytest.mark.parametrize("loss", [math.nan, math.inf, 0.0, -1.0])
def test_losses_that_say_nothing_change_nothing(loss: float) -> None:
    silent = [tuple(replace(rung, loss=loss) for rung in each) for each in STEADY]
    assert learned(silent).end(curve(0.6, loss=loss), 0, 1) == pytest.approx(learned(STEADY).end(curve(0.6), 0, 1))


def test_of_a_loss_the_same_is_told_with_the_other_sign() -> None:
    turned = [tuple(replace(rung, score=-rung.score) for rung in each) for each in STEADY]
    assert learned(turned, sign=-1).end(curve(-0.6), 0, -1) == pytest.approx(learned(STEADY).end(curve(0.6), 0, 1))


def test_units_do_not_matter() -> None:
    def scaled(curves: Sequence[Curve], unit: float) -> list[Curve]:
        return [tuple(replace(rung, score=unit * rung.score, error=unit * 0.02) for rung in each) for each in curves]

    rng = np.random.default_rng(2)
    ended = [curve(start, start, start + 0.1 * rng.normal()) for start in np.linspace(0.5, 0.8, 12)]
    expected = np.array(learned(scaled(ended, 1.0)).end(*scaled([curve(0.6)], 1.0), 0, 1))
    for unit in (1e-2, 1e3):
        told = learned(scaled(ended, unit)).end(*scaled([curve(0.6)], unit), 0, 1)
        assert np.array(told) / unit == pytest.approx(expected, rel=1e-3)


def test_no_training_is_expected_to_fall_below_what_it_has_by_more_than_chance() -> None:
    failed = [curve(start, 0.1, 0.1) for start in (0.2, 0.3, 0.4, 0.6)]
    assert learned(failed).end(curve(0.7, error=0.02), 0, 1)[0] == pytest.approx(0.68)


def test_an_end_is_worth_less_than_it_scored_where_rows_are_few_and_what_was_told_lies_lower() -> None:
    rng = np.random.default_rng(3)
    true = np.linspace(0.5, 0.8, 40)
    ended = [curve(each, each, each + 0.07 * rng.normal(), error=0.07) for each in true]
    lucky = curve(0.6, 0.6, 0.8, error=0.07)
    assert 0.58 < learned([*ended, lucky]).worth(lucky, 0, 1) < 0.72
    sure = tuple(replace(rung, error=math.nan) for rung in lucky)
    assert learned([*ended, sure]).worth(sure, 0, 1) == pytest.approx(0.8), "no errors, no doubt"
    assert learned(ended).worth(curve(0.9), 0, 1) == 0.9, "it had one rung, and nothing was told"
