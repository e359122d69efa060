"""Trends through observations."""

import numpy as np
import pytest

from autopeft.searching.samplers.parts.trend import trend_of

POINTS = np.random.default_rng(0).normal(size=(40, 2))
BEYOND = np.array([[10.0, -10.0]])


def test_what_rises_steadily_goes_on_to_rise() -> None:
    values = 3.0 + POINTS @ np.array([0.5, -2.0])
    assert trend_of(POINTS, values, 1e-6).at(BEYOND) == pytest.approx([28.0], abs=1e-3)


def test_several_values_have_a_trend_each() -> None:
    slopes = np.array([[0.5, 1.0], [-2.0, 0.0]])
    values = 3.0 + POINTS @ slopes
    assert trend_of(POINTS, values, 1e-6).at(BEYOND)[0] == pytest.approx([28.0, 13.0], abs=1e-3)


def test_a_ridge_holds_slopes_back_towards_those_expected() -> None:
    values = POINTS @ np.array([0.5, -2.0])
    expected = np.array([1.0, 1.0])
    free, held, tied = (trend_of(POINTS, values, ridge, expected).slopes for ridge in (1e-6, 10.0, 1e9))
    assert free == pytest.approx([0.5, -2.0], abs=1e-3)
    assert tied == pytest.approx(expected, abs=1e-3)
    assert (np.abs(held - free) < np.abs(tied - free)).all()
    assert (np.abs(held - free) > 0.01).all()


def test_coordinates_that_never_varied_have_no_slope_of_their_own() -> None:
    points = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    assert trend_of(points, points[:, 0], 1.0).slopes[1] == 0.0
