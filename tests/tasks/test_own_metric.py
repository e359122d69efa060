"""A function of a user's own as a metric: one number or one for each row, its error, and what is no score."""

# ruff: noqa: ARG001, ARG005 - users' functions that look at nothing

import threading
import time

import numpy as np
import pytest
import torch

from autopeft.confirmed import compare, draw
from autopeft.errors import AutopeftError
from autopeft.searching.preparing.baselines import baseline_of
from autopeft.space.candidate import Training
from autopeft.tasks import own_metric as module
from autopeft.tasks import patience
from autopeft.tasks.base import Task
from autopeft.tasks.metrics import ACCURACY, F1_MACRO, NoScore, standard_error
from autopeft.tasks.own import NotNamed, bring, remember
from autopeft.tasks.own_metric import OwnMetric, answered, metric_of, own_metric
from autopeft.tasks.text_classification import TextClassification
from tests.tasks.test_base import WIDTH, batch, states, task  # noqa: F401 - a fixture


def share(expected, predicted):
    return np.mean(expected == predicted)


def right(expected, predicted):
    return expected == predicted


def middle(expected, predicted):
    """No smooth function of rows."""
    return float(np.median(np.abs(expected - predicted)))


middle.greater_is_better = False


def spearman(expected, predicted):
    ranks = [np.argsort(np.argsort(each)) for each in (expected, predicted)]
    return np.corrcoef(*ranks)[0, 1]


def rows_of(expected, predicted):
    """As an evaluation gathers them."""
    rows = np.empty((len(expected), 2), dtype=object)
    rows[:, 0], rows[:, 1] = expected, predicted
    return rows


def words(count, seed=0, wrong=0.2):
    random = np.random.default_rng(seed)
    expected = random.choice(["a", "b", "c"], count)
    return rows_of(expected, np.where(random.random(count) < wrong, "c", expected))


def numbers(count, seed=0, noise=1.0):
    random = np.random.default_rng(seed)
    expected = random.normal(size=count)
    return rows_of(expected, expected + noise * random.standard_t(5, count))


def test_of_one_number_for_each_row_the_mean_is_the_score_and_their_spread_the_error():
    metric, rows = own_metric(right), words(300)
    hits = (rows[:, 0] == rows[:, 1]).astype(float)
    assert (metric.values(rows) == hits).all()
    assert metric.of(rows) == hits.mean()
    assert (metric.name, metric.heading, metric.higher_is_better, metric.ideal) == ("right", "right", True, None)


def test_of_one_number_the_values_of_rows_have_the_score_as_mean_and_the_error_of_a_bootstrap():
    metric, rows = own_metric(share), words(400)
    score, values = metric.of(rows), metric.values(rows)
    assert score == own_metric(right).of(rows)
    assert values.mean() == pytest.approx(score)
    assert standard_error(values) == pytest.approx(np.sqrt(score * (1 - score) / 400), rel=0.15)
    assert (values == metric.values(rows)).all()


@pytest.mark.parametrize(
    ("function", "make"), [(share, words), pytest.param(middle, numbers, marks=pytest.mark.long), (spearman, numbers)]
)
def test_the_error_is_what_other_rows_do_to_the_score(function, make):
    metric = own_metric(function)
    scores = [metric.of(make(200, seed)) for seed in range(400)]
    errors = [standard_error(metric.values(make(200, seed))) for seed in range(40)]
    assert np.mean(errors) == pytest.approx(np.std(scores), rel=0.1)


def test_two_models_on_the_same_rows_differ_with_the_error_of_pairs():
    """Which is less than that of two strangers, because what one row is worth to both goes together."""
    metric, differences, errors, of_strangers = own_metric(middle), [], [], []
    for seed in range(200):
        one = numbers(200, seed)
        other = rows_of(one[:, 0], one[:, 1] + np.random.default_rng(seed + 1000).normal(size=200) / 4)
        differences.append(metric.of(one) - metric.of(other))
        if seed < 40:
            values = [metric.values(each) for each in (one, other)]
            errors.append(standard_error(values[0] - values[1]))
            of_strangers.append(np.hypot(*map(standard_error, values)))
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.15)
    assert np.mean(errors) < 0.9 * np.mean(of_strangers)


def test_a_confirmation_tells_two_models_apart_by_a_function_of_all_rows():
    metric, good = own_metric(share), words(400, wrong=0.05)
    bad = rows_of(good[:, 0], np.where(np.arange(400) % 4 == 0, "c", good[:, 1]))
    values = [metric.values(each)[None] for each in (good, bad)]
    drawn = draw(values)
    assert compare(1, 2, *values, drawn[:, 0] - drawn[:, 1]).apart
    same = [metric.values(good)[None]] * 2
    drawn = draw(same)
    assert not compare(1, 2, *same, drawn[:, 0] - drawn[:, 1]).apart


def test_many_rows_are_drawn_in_part_and_the_error_is_that_of_all(monkeypatch):
    monkeypatch.setattr(module, "MOST_DRAWN", 100)
    rows, calls = words(2000), []

    def counting(expected, predicted):
        calls.append(len(expected))
        return share(expected, predicted)

    values = OwnMetric("share", "share", counting, ideal=None).values(rows)
    assert calls == [2000, *[100] * module.DRAWS]
    assert standard_error(values) == pytest.approx(standard_error(own_metric(right).values(rows)), rel=0.2)


def test_draws_without_a_score_are_left_out_and_where_most_have_none_nobody_knows_the_error():
    def of_both(expected, predicted):
        return np.mean(expected == predicted) if {*expected.tolist()} == {"a", "b"} else float("nan")

    metric = OwnMetric("of_both", "of_both", of_both, ideal=None)
    rare = rows_of(["a"] * 39 + ["b"], ["a"] * 35 + ["b"] * 5)
    assert np.isfinite(metric.values(rare)).all()

    def of_all(expected, predicted):
        return 1.0 if len({*expected.tolist()}) == 40 else float("nan")

    metric = OwnMetric("of_all", "of_all", of_all, ideal=None)
    values = metric.values(rows_of([*map(str, range(40))], [*map(str, range(40))]))
    assert np.isnan(values).all()


def test_what_is_no_score_is_answered_by_the_name_of_the_function():
    for told, said in (
        (None, r"must give a number, or one for each row, not None"),
        ("0.5", r"must give a number, or one for each row, not '0.5'"),
        ([1.0, 2.0], r"must give one number, or 50, one for each row, not an array of shape \(2,\)"),
        (np.ones((50, 2)), r"must give one number, or 50, .*shape \(50, 2\)"),
        ([[1.0], [1.0, 2.0]], r"must give a number, or one for each row"),
        (1j, r"must give a number"),
        (float("nan"), r"gives nan, which is no score"),
        (np.full(50, np.inf), r"gives array.*which is no score"),
    ):
        function = OwnMetric("odd", "odd", lambda expected, predicted, told=told: told, ideal=None)
        with pytest.raises(AutopeftError, match=r"the metric 'tests.tasks.test_own_metric:.*' " + said):
            function.of(words(50))

    def failing(expected, predicted):
        return expected.undefined

    with pytest.raises(AutopeftError, match=r"failing' fails: AttributeError: .*undefined"):
        own_metric(failing).of(words(50))


def test_a_baseline_that_a_metric_has_no_value_for_stays_unknown():
    """As a correlation with what is the same for all has none."""
    constant = rows_of(np.arange(9.0), np.ones(9))
    metric = OwnMetric("same", "same", lambda expected, predicted: float("nan"), ideal=None)
    found = baseline_of(metric, constant)
    assert np.isnan(found.score)
    assert found.answers is None


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (5, "a metric is a function with a name, of expected and predicted values, not 5"),
        (lambda expected, predicted: 1.0, "a metric is a function with a name"),
        (OwnMetric, "a metric is a function with a name"),
    ],
)
def test_what_can_be_no_metric_is_refused(thing, said):
    with pytest.raises(AutopeftError, match=said):
        own_metric(thing)


def test_a_function_of_something_else_is_refused_and_so_are_names_and_directions_that_mean_something_else():
    def one(expected):
        return 1.0

    def memory(expected, predicted):
        return 1.0

    def odd(expected, predicted):
        return 1.0

    odd.greater_is_better = "no"
    with pytest.raises(AutopeftError, match="must take two values, what is expected and what is predicted"):
        own_metric(one)
    with pytest.raises(AutopeftError, match="cannot be called 'memory', which is a cost"):
        own_metric(memory)
    with pytest.raises(AutopeftError, match=r"odd\.greater_is_better must be True or False, not 'no'"):
        own_metric(odd)
    assert not own_metric(middle).higher_is_better


def test_functions_of_scikit_learn_are_taken_in_their_direction():
    kappa = own_metric(bring("sklearn.metrics:cohen_kappa_score", "metric"))
    assert kappa.higher_is_better
    assert 0.7 < kappa.of(words(300)) < 0.9
    assert not own_metric(bring("sklearn.metrics:median_absolute_error", "metric")).higher_is_better


def test_every_task_tells_what_is_expected_and_answered_in_the_same_terms(task: Task):  # noqa: F811
    if task.causal:
        with pytest.raises(AutopeftError, match="must take three values, a prompt, its answer, and what was generated"):
            metric_of(task, "sklearn.metrics:cohen_kappa_score")
        return
    head, whole = task.new_head(WIDTH, Training()).eval(), batch(task, 6)
    with torch.no_grad():
        rows = answered(task)(head(states(6), whole), whole)
    assert rows.shape == (6, 2)
    assert all(type(expected) is type(answer) for expected, answer in rows)
    assert all(len(expected) == len(answer) for expected, answer in rows if isinstance(expected, list))

    def different(expected, predicted):
        return [one != other for one, other in zip(expected, predicted, strict=True)]

    assert 0 <= own_metric(different).of(rows) <= 1


def test_of_classes_it_is_called_with_names():
    told = TextClassification(("text",), ("bad", "good"))
    rows = answered(told)(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), {"labels": torch.tensor([0, 0])})
    assert rows.tolist() == [["bad", "bad"], ["bad", "good"]]
    assert own_metric(right).of(rows) == 0.5


def test_a_metric_of_ones_own_is_known_by_its_reference_once_it_is_named():
    told = TextClassification(("text",), ("bad", "good"))
    with pytest.raises(NotNamed, match="say --metric here, too"):
        metric_of(told, "nowhere.py:score")
    assert metric_of(told, remember(right)) == own_metric(right)
    assert metric_of(told, "f1_macro") == F1_MACRO


def test_a_task_that_does_not_tell_takes_no_metric_of_ones_own(task: Task):  # noqa: F811
    with pytest.raises(AutopeftError, match="does not tell what rows expect"):
        Task.compared(task, torch.zeros(1), {})
    assert not ACCURACY.of_answers


def test_a_function_may_change_what_it_is_called_with():
    def sorting(expected, predicted):
        told = spearman(expected, predicted)
        expected.sort()
        predicted -= predicted
        return told

    rows = numbers(200)
    assert (own_metric(sorting).values(rows) == own_metric(spearman).values(rows)).all()

    def same(expected, predicted):
        return float(np.mean([one == other for one, other in zip(expected, predicted, strict=True)]))

    def same_by_popping(expected, predicted):
        told = [one.pop() == other.pop() for one, other in zip(expected, predicted, strict=True)]
        expected.clear()
        return float(np.mean(told))

    of_lists = np.empty((40, 2), dtype=object)
    for row in range(40):
        of_lists[row, 0], of_lists[row, 1] = ["a"], ["a" if row % 3 else "b"]
    assert (own_metric(same_by_popping).values(of_lists) == own_metric(same).values(of_lists)).all()


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), BaseException("odd")])
def test_a_function_that_would_end_the_program_is_answered(error):
    def leaving(expected, predicted):
        raise error

    with pytest.raises(AutopeftError, match=rf"leaving' fails: {type(error).__name__}"):
        own_metric(leaving).of(words(50))

    def interrupted(expected, predicted):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        own_metric(interrupted).of(words(50))


def test_a_metric_of_ones_own_is_not_called_like_one_of_the_task():
    def accuracy(expected, predicted):
        return share(expected, predicted)

    told = TextClassification(("text",), ("bad", "good"))
    with pytest.raises(AutopeftError, match="cannot be called 'accuracy', as a metric of text-classification is"):
        metric_of(told, remember(accuracy))


@pytest.mark.parametrize(
    ("name", "higher"),
    [
        *((name, False) for name in ("loss", "error", "RMSE", "mse", "mae", "perplexity", "log_loss", "max_error")),
        *((name, True) for name in ("neg_mean_squared_error", "terror", "f1", "maeander", "error_free")),
    ],
)
def test_what_a_name_says_of_the_direction_is_understood(name, higher):
    def function(expected, predicted):
        return 1.0

    function.__name__ = name
    assert own_metric(function).higher_is_better is higher
    function.greater_is_better = not higher
    assert own_metric(function).higher_is_better is not higher


@pytest.mark.filterwarnings("error")
def test_a_number_that_is_too_large_for_a_score_is_told_without_warnings():
    for told in (1e300, -1e300, np.full(50, 1e308)):
        function = OwnMetric("huge", "huge", lambda expected, predicted, told=told: told, ideal=None)
        with pytest.raises(NoScore, match="which is too large for a score"):
            function.of(words(50))
    large = OwnMetric("large", "large", lambda expected, predicted: 1e29 * share(expected, predicted), ideal=None)
    assert np.isfinite(standard_error(large.values(words(50)).astype("f4").astype(float)))


def never(expected, predicted):
    while True:
        pass


def asleep(expected, predicted):
    time.sleep(30)


def stuck_in_draws(expected, predicted):
    if len(set(expected.tolist())) < 3 or len(expected) > 20:
        time.sleep(30)
    return 1.0


@pytest.mark.parametrize("function", [never, asleep])
def test_a_function_that_hangs_is_waited_for_so_long_and_then_told(function, monkeypatch):
    monkeypatch.setattr(patience, "LONGEST", 0.1)
    began = time.perf_counter()
    said = rf"the metric '.*:{function.__name__}' hangs: it is not done after 0 seconds\."
    with pytest.raises(AutopeftError, match=said):
        own_metric(function).of(words(10))
    assert time.perf_counter() - began < 5
    for each in [each for each in threading.enumerate() if ":never" in each.name]:
        each.join(5)
        assert not each.is_alive()


def test_a_function_that_hangs_on_some_draws_is_not_tried_on_all_of_them(monkeypatch):
    monkeypatch.setattr(patience, "LONGEST", 0.1)
    began = time.perf_counter()
    with pytest.raises(patience.Hangs):
        own_metric(stuck_in_draws).values(rows_of(["a"] * 15 + ["b", "c"], ["a"] * 17))
    assert time.perf_counter() - began < 5
