"""Metrics that their tasks do not test: how errors are made, whatever the units, and scores of all rows at once."""

import numpy as np
import pytest

from autopeft.tasks.metrics import Metric, WholeMetric, standard_error

RATIO = Metric("ratio", "ratio", lambda sums: float(sums[0] / sums[1]))
MEDIAN = WholeMetric("median", "median", lambda rows: float(np.median(rows[:, 0])), ideal=None)
MEAN = WholeMetric("mean", "mean", lambda rows: float(rows[:, 0].mean()), ideal=None)


def bootstrapped(metric: Metric, rows: np.ndarray, times: int = 1000) -> float:
    random = np.random.default_rng(1)
    return float(np.std([metric.of(rows[random.integers(0, len(rows), len(rows))]) for _ in range(times)]))


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_an_error_is_right_in_any_unit(unit):
    rows = np.random.default_rng(0).lognormal(size=(400, 2)) * [unit, 1.0]
    assert standard_error(RATIO.values(rows)) == pytest.approx(bootstrapped(RATIO, rows), rel=0.1)
    assert RATIO.values(rows).mean() == pytest.approx(RATIO.of(rows))
    assert RATIO.error(rows) == standard_error(RATIO.values(rows))


def test_a_score_of_all_rows_has_the_error_that_resampling_shows():
    rows = np.random.default_rng(0).normal(size=(600, 1))
    assert MEDIAN.error(rows) == pytest.approx(bootstrapped(MEDIAN, rows), rel=0.1)
    assert MEDIAN.error(rows) == MEDIAN.error(rows)


@pytest.mark.parametrize("count", [30, 500, 701, 2600])
def test_rows_of_a_score_of_all_rows_are_worth_what_the_score_loses_without_them(count):
    rows = np.random.default_rng(0).exponential(size=(count, 1))
    values = MEAN.values(rows)
    assert values.mean() == pytest.approx(MEAN.of(rows))
    assert standard_error(values) == pytest.approx(rows.std() / np.sqrt(count), rel=0.1)
    if count <= 500:
        assert values == pytest.approx(rows[:, 0])
