"""The expected improvement of a front, against its definition and against hand-made cases."""

import numpy as np
import pytest

from autopeft.searching.samplers.parts.improvement import (
    Improvement,
    budgets_between,
    expected_excess,
    for_their_seconds,
)

SURE = np.array([0.0])
COSTS = np.array([[1.0, 3.0], [3.0, 1.0]])
ACCURACIES = np.array([0.8, 0.9])
BUDGETS = np.array([[2.0, 4.0], [4.0, 2.0], [4.0, 4.0], [0.5, 0.5]])
IMPROVEMENT = Improvement(COSTS, ACCURACIES, BUDGETS)


def of(costs: tuple[float, float], accuracy: float, deviation: float = 0.0) -> float:
    return float(IMPROVEMENT.of(np.array([costs]), np.array([accuracy]), np.array([deviation]))[0])


def test_a_candidate_that_a_trial_beats_in_everything_adds_nothing() -> None:
    assert of((3.5, 1.5), 0.85) == pytest.approx(0.0, abs=1e-6)


def test_a_candidate_adds_its_excess_for_every_budget_that_it_fits() -> None:
    assert of((3.5, 1.5), 0.95) == pytest.approx((0.05 + 0.05) / 4, abs=1e-6)
    assert of((0.1, 0.1), 0.85) == pytest.approx((0.05 + 0.85) / 4, abs=1e-6)


def test_what_is_not_surely_worse_may_still_add_something() -> None:
    assert of((3.5, 1.5), 0.85, deviation=0.05) > 1e-3


def test_the_expected_excess_is_the_mean_of_what_is_above() -> None:
    draws = np.random.default_rng(0).normal(0.7, 0.1, 200_000)
    exact = expected_excess(np.array(0.7), np.array(0.1), np.array(0.75))
    assert float(exact) == pytest.approx(np.maximum(draws - 0.75, 0).mean(), rel=0.02)


def test_with_an_empty_front_or_without_costs_only_gains_decide() -> None:
    alone = Improvement(np.zeros((0, 2)), np.zeros(0), BUDGETS)
    assert alone.of(np.array([[0.0, 0.0]]), np.array([0.6]), SURE) == pytest.approx(0.6, abs=1e-6)
    single = Improvement(np.zeros((1, 0)), np.array([0.8]), np.zeros((7, 0)))
    assert single.of(np.zeros((1, 0)), np.array([0.9]), SURE) == pytest.approx(0.1, abs=1e-6)


def test_budgets_reach_from_the_least_to_the_largest_costs_on_both_scales() -> None:
    logs = np.log(np.array([[1e3, 1e8], [1e7, 1e9]]))
    budgets = np.exp(budgets_between(logs, np.random.default_rng(0)))
    assert (budgets <= np.array([1e7, 1e9]) * (1 + 1e-9)).all()
    half = len(budgets) // 2
    assert np.median(budgets[:half, 0]) == pytest.approx(1e5, rel=0.8)
    assert np.median(budgets[half:, 0]) == pytest.approx(5e6, rel=0.2)


def test_of_two_that_add_as_much_the_quick_one_is_worth_more_until_all_is_spent() -> None:
    adds, durations = np.array([1.0, 1.0, 3.0]), np.log([10.0, 100.0, 20.0])
    assert for_their_seconds(adds, durations, 0.0) == pytest.approx([0.1, 0.01, 0.15])
    assert for_their_seconds(adds, durations, 0.5) == pytest.approx([10**-0.5, 0.1, 3 * 20**-0.5])
    assert for_their_seconds(adds, durations, 1.0) == pytest.approx(adds)


def test_where_nobody_knows_seconds_nothing_is_weighed() -> None:
    adds = np.array([0.3, 0.1])
    assert (for_their_seconds(adds, np.zeros(2), 0.0) == adds).all()
