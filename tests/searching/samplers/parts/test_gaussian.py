"""The Gaussian process: its gradient is right, it interpolates, and it learns which group matters."""

from collections.abc import Callable
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from scipy.optimize import check_grad

from autopeft.searching.samplers.parts import gaussian
from autopeft.searching.samplers.parts.gaussian import conditioned, fitted

Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]

RNG = np.random.default_rng(0)
POINTS = RNG.uniform(-1, 1, (30, 2))
VALUES = 0.8 + 0.1 * np.sin(3 * POINTS[:, 0])
EXPECTED = np.ones(2)


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Each coordinate is a group."""
    return np.moveaxis((one[:, None] - other[None]) ** 2, 2, 0)


def minimized(within: np.ndarray, values: np.ndarray) -> tuple[Loss, np.ndarray]:
    """The loss that `fitted` looks for the least of, with its gradient, and the bounds within which it does."""
    with patch.object(gaussian, "minimize", side_effect=StopIteration) as minimize, pytest.raises(StopIteration):
        fitted(within, values, EXPECTED)
    return minimize.call_args.args[0], minimize.call_args.kwargs["bounds"]


def test_the_gradient_is_that_of_the_loss() -> None:
    loss, _ = minimized(distances(POINTS, POINTS), VALUES)
    for at in (np.zeros(4), np.array([0.5, -0.3, 0.2, -2.0])):
        assert check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], at) < 1e-3


def test_wherever_the_most_probable_is_looked_for_covariances_are_positive_definite() -> None:
    """Also where points are the same and distances are off by rounding errors."""
    points = 10 * np.concatenate([POINTS, POINTS, POINTS[:, ::-1]])
    sums = points**2
    rounded = np.maximum(sums[:, None] + sums[None] - 2 * points[:, None] * points[None], 0.0)
    loss, bounds = minimized(np.moveaxis(rounded, 2, 0), np.tile(VALUES, 3))
    for corner in product(*bounds):
        value, slope = loss(np.array(corner))
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


def test_it_predicts_between_observations_and_is_sure_only_near_them() -> None:
    within = distances(POINTS, POINTS)
    model = conditioned(within, VALUES, fitted(within, VALUES, EXPECTED))
    asked = RNG.uniform(-0.9, 0.9, (50, 2))
    means, near = model.predict(distances(POINTS, asked))
    assert np.abs(means - (0.8 + 0.1 * np.sin(3 * asked[:, 0]))).max() < 0.03
    _, far = model.predict(distances(POINTS, asked + 50))
    assert near.max() < far.min()


def test_a_group_that_does_not_matter_gets_a_greater_length() -> None:
    lengths = np.exp(fitted(distances(POINTS, POINTS), VALUES, EXPECTED)[:2])
    assert lengths[1] > 2 * lengths[0]


def test_equal_values_are_believed_everywhere() -> None:
    within = distances(POINTS, POINTS)
    model = conditioned(within, np.ones(30), fitted(within, np.ones(30), EXPECTED))
    assert model.predict(distances(POINTS, POINTS[:3]))[0] == pytest.approx(1.0)


def test_what_is_doubted_pulls_less() -> None:
    points = np.array([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]])
    within, values, logs = distances(points, points), np.array([0.8, 0.8, 0.5]), np.array([0.0, 0.0, 0.0, -4.0])
    at = distances(points, points[2:])
    means = [
        conditioned(within, values, logs, np.array([0.0, 0.0, doubt])).predict(at)[0].item() for doubt in (0.0, 0.1, 10)
    ]
    assert means[0] == pytest.approx(0.5, abs=0.03)
    assert means[0] + 0.1 < means[1] < means[2] - 0.05


def test_nothing_asked_is_nothing_answered() -> None:
    within = distances(POINTS, POINTS)
    means, deviations = conditioned(within, VALUES, np.zeros(4)).predict(distances(POINTS, POINTS[:0]))
    assert means.shape == deviations.shape == (0,)


def test_what_is_awaited_changes_no_mean_and_makes_sure_nearby_as_if_it_had_been_seen() -> None:
    logs = np.array([0.0, 0.0, 0.0, -4.0])
    more, asked = RNG.uniform(-1, 1, (5, 2)), RNG.uniform(-1, 1, (20, 2))
    model = conditioned(distances(POINTS, POINTS), VALUES, logs)
    awaiting = model.awaiting(distances(POINTS, more), distances(more, more))
    every = np.concatenate([POINTS, more])
    means, before = model.predict(distances(POINTS, asked))
    same, after = awaiting.predict(distances(every, asked))
    assert same == pytest.approx(means)
    assert (after <= before + 1e-12).all()
    seen = conditioned(distances(every, every), np.concatenate([VALUES, VALUES[:5]]), logs)
    assert after / awaiting.spread == pytest.approx(seen.predict(distances(every, asked))[1] / seen.spread, rel=1e-3)
