"""Chance is taken for chance and differences for differences, whatever the order, the split and the number of seeds."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autopeft.confirmed import (
    LEVEL,
    Confirmed,
    Spread,
    compare,
    confirmed,
    draw,
    judges_what_ships,
    mcnemar,
    probabilities_on_front,
    sign_flips,
)
from autopeft.objectives import objectives_named, score_of
from autopeft.tasks.metrics import F1_MACRO, standard_error
from autopeft.trial import Answers, SearchRecord, Status, Trial
from tests.reports.records import bare, confirmation, record, trial

counts = st.integers(min_value=0, max_value=400)


def known(of: SearchRecord) -> Confirmed:
    found = confirmed(of)
    assert found is not None
    return found


def on_front(right: list[np.ndarray], trials: list[Trial]) -> list[float]:
    return list(probabilities_on_front(draw(right), trials, objectives_named(("score", "memory", "trainable"))))


def answered(accuracy: float, seeds: int = 3, rows: int = 500, seed: int = 0) -> np.ndarray:
    """(seeds, rows): every seed answers a row rightly with this probability, whatever the others do."""
    return (np.random.default_rng(seed).random((seeds, rows)) < accuracy) * 1.0


@given(one=counts, other=counts)
def test_mcnemars_test_is_the_exact_binomial_one(one: int, other: int) -> None:
    rows, fewer = one + other, min(one, other)
    exact = min(1.0, 2 * sum(math.comb(rows, count) for count in range(fewer + 1)) / 2**rows)
    assert mcnemar(one, other) == pytest.approx(exact, rel=1e-9)
    assert mcnemar(one, other) == mcnemar(other, one)


@given(one=counts, other=counts)
def test_a_more_uneven_count_is_never_more_likely(one: int, other: int) -> None:
    fewer, more = sorted((one, other))
    assert mcnemar(fewer, more + 1) <= mcnemar(fewer, more) + 1e-12


def test_six_rows_to_none_is_the_least_that_tells_two_apart() -> None:
    assert mcnemar(5, 0) == pytest.approx(0.0625)
    assert mcnemar(6, 0) == pytest.approx(0.03125)
    assert mcnemar(0, 0) == 1
    assert mcnemar(60_000, 50_000) < 1e-12


@given(rows=arrays.arrays(np.float32, st.integers(1, 70), elements=st.floats(-1e6, 1e6, width=32)))
def test_what_rows_are_worth_comes_back_with_its_error(rows: np.ndarray) -> None:
    answers = Answers.of(float(rows.mean()), rows)
    assert answers.are_whole
    assert np.array_equal(answers.of_rows, rows)
    assert answers.error == pytest.approx(standard_error(rows.astype(float)))


@given(one=counts, other=counts, alike=st.integers(0, 50), size=st.sampled_from([1.0, 1 / 3, 1e-4]))
def test_signs_of_right_and_wrong_answers_are_mcnemars_test(one: int, other: int, alike: int, size: float) -> None:
    differences = np.repeat([size, -size, 0.0], [one, other, alike])
    assert sign_flips(differences) == mcnemar(one, other)


@pytest.mark.parametrize("rows", [3, 8, 14])
def test_few_signs_are_those_of_all_flips(rows: int) -> None:
    differences = np.random.default_rng(rows).normal(0.3, 1, rows)
    flips = np.array(np.meshgrid(*[[-1, 1]] * rows)).reshape(rows, -1).T @ differences
    exact = float(np.mean(np.abs(flips) >= abs(differences.sum()) - 1e-9))
    assert sign_flips(differences) == pytest.approx(exact, abs=0.025)


@pytest.mark.parametrize("heavy", [False, True])
def test_many_signs_are_as_good_as_normal(heavy: bool) -> None:
    """The normal distribution, where it takes over, beside flips."""
    rng = np.random.default_rng(1)
    differences = rng.standard_t(6, 4000) + 0.03 if heavy else rng.normal(0.1, 1, 700)
    sizes = np.abs(differences) / np.abs(differences).max()
    assert 60 < sizes @ sizes < 200, "about where it does"
    flips = np.concatenate([rng.choice((-1.0, 1.0), (500, len(differences))) @ differences for _ in range(40)])
    flipped = float(np.mean(np.abs(flips) >= abs(differences.sum())))
    assert math.erfc(abs(differences.sum()) / math.sqrt(2 * differences @ differences)) == pytest.approx(
        flipped, abs=0.008
    )


def null_rejections(values: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]], tries: int) -> float:
    """How often two models are told apart by their rows, of which each might as well have the other's answers."""
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(tries):
        one, other = values(rng)
        told += sign_flips(one - other) < LEVEL
    return told / tries


def right_answers(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    difficulty = rng.normal(size=250)
    return tuple((difficulty < 0.8 + rng.normal(0, 0.5, 250)) * 1.0 for _ in range(2))  # type: ignore[return-value]


def macro_f1_of_three_classes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.choice(3, 250, p=(0.6, 0.3, 0.1))
    found = []
    for _ in range(2):
        answers = np.where(rng.random(250) < 0.8, labels, rng.integers(0, 3, 250))
        said, meant = np.eye(3)[answers], np.eye(3)[labels]
        true = said * meant
        found.append(F1_MACRO.values(np.concatenate([np.ones((250, 1)), true, said - true, meant - true], 1)))
    return found[0], found[1]


def squared_errors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    target = rng.standard_t(4, 300)
    return tuple((target - rng.normal(0, 1, 300)) ** 2 for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "values",
    [
        right_answers,
        pytest.param(macro_f1_of_three_classes, marks=pytest.mark.long),
        pytest.param(squared_errors, marks=pytest.mark.long),
    ],
)
def test_models_that_are_alike_are_told_apart_no_more_often_than_allowed_whatever_the_metric(
    values: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]],
) -> None:
    assert 0.01 < null_rejections(values, 4000) <= 0.065


@settings(max_examples=20, derandomize=True)
@given(accuracies=st.lists(st.floats(0.05, 0.95), min_size=1, max_size=4), seeds=st.integers(1, 4))
def test_draws_lie_around_what_was_observed_and_probabilities_between_0_and_1(
    accuracies: list[float], seeds: int
) -> None:
    right = [answered(accuracy, seeds, 300, seed) for seed, accuracy in enumerate(accuracies)]
    drawn = draw(right)
    assert np.median(drawn, 0) == pytest.approx([each.mean() for each in right], abs=0.01)
    trials = [trial(number, memory=number, trainable=number) for number in range(1, len(right) + 1)]
    found = on_front(right, trials)
    assert all(0 <= each <= 1 for each in found)
    assert found[0] == 1, "nothing costs as little as the cheapest"


def test_only_what_costs_no_more_can_push_a_member_off_the_front() -> None:
    better, worse = answered(0.9), answered(0.7, seed=1)
    cheap, dear, other = (
        trial(1, memory=1, trainable=1),
        trial(2, memory=2, trainable=2),
        trial(3, memory=1, trainable=3),
    )
    assert on_front([better, worse], [cheap, dear]) == [1, pytest.approx(0, abs=1e-3)]
    assert on_front([better, worse], [dear, cheap]) == [pytest.approx(1, abs=1e-3), 1]
    assert on_front([better, worse], [dear, other]) == [1, 1]


def test_equal_answers_leave_it_open_who_is_on_the_front() -> None:
    same = answered(0.8)
    cheap, dear = trial(1, memory=1, trainable=1), trial(2, memory=2, trainable=2)
    assert on_front([same, same], [cheap, dear]) == [1, pytest.approx(0.5, abs=0.02)]


def rejections(gap: float, seeds: int, rows: int, spread: float, tries: int = 100) -> float:
    """How often two methods whose expected accuracies lie this far apart are told apart.

    Rows are more or less difficult for both, and every training is a little better or worse than its method.
    """
    told = 0
    for number in range(tries):
        rng = np.random.default_rng(number)
        difficulty = rng.normal(size=rows)
        right = [
            np.stack([1.5 + move + rng.normal(0, spread) + rng.normal(0, 0.5, rows) > difficulty for _ in range(seeds)])
            * 1.0
            for move in (gap, 0.0)
        ]
        drawn = draw(right)
        told += compare(1, 2, *right, drawn[:, 0] - drawn[:, 1]).p < LEVEL
    return told / tries


@pytest.mark.parametrize(("seeds", "rows", "spread"), [(1, 200, 0.0), (3, 200, 0.1), (3, 800, 0.2), (5, 400, 0.1)])
def test_equal_methods_are_told_apart_no_more_often_than_allowed(seeds: int, rows: int, spread: float) -> None:
    assert rejections(0.0, seeds, rows, spread) <= LEVEL + 0.025


def test_large_differences_are_told_apart_nearly_always() -> None:
    assert rejections(0.8, 3, 400, 0.1) > 0.9


def test_a_difference_within_the_spread_of_seeds_is_not_told_apart_by_many_rows() -> None:
    lucky = [answered(0.80, 3, 50_000, 0), answered(0.80, 3, 50_000, 1)]
    for mine, moves in zip(lucky, ((0.03, 0.0, -0.02), (0.01, -0.03, -0.01)), strict=True):
        for seed, move in enumerate(moves):
            mine[seed, : int(abs(move) * 50_000)] = move > 0
    drawn = draw(lucky)
    pair = compare(1, 2, *lucky, drawn[:, 0] - drawn[:, 1])
    assert not pair.apart
    assert pair.low < 0 < pair.difference < pair.high


def test_a_search_is_summed_up_by_members_and_neighbours() -> None:
    found = known(record())
    assert [member.trial.number for member in found.members] == [4, 1, 2]
    assert (found.split, found.rows, found.seeds) == ("test", 400, 3)
    assert [(pair.ahead, pair.behind) for pair in found.neighbours] == [(4, 1), (1, 2)]
    assert [pair.apart for pair in found.neighbours] == [False, True]
    best = found.members[0]
    assert best.validation.mean == pytest.approx(0.86)
    assert best.validation.deviation == pytest.approx(0.005)
    assert best.test is not None
    assert best.test.mean == pytest.approx(0.85)
    scores = {each.number: each.score or 0 for each in record().trials}
    expected = np.mean([scores[number] - seen for number, seen in ((1, 0.85), (2, 0.77), (4, 0.86))])
    assert found.excess == pytest.approx(expected)


def test_the_order_of_confirmations_does_not_matter() -> None:
    one, other = known(record()), known(replace(record(), confirmations=record().confirmations[::-1]))
    assert one.neighbours == other.neighbours
    assert [each.on_front for each in one.members] == [each.on_front for each in other.members]


def test_without_a_test_split_validation_decides() -> None:
    found = known(replace(record(), confirmations=tuple(replace(each, test=None) for each in record().confirmations)))
    assert found.split == "validation"
    assert all(member.test is None for member in found.members)


def test_what_failed_counts_as_a_failure_and_what_left_the_front_not_at_all() -> None:
    lost = replace(confirmation(1, 4), status=Status.FAILED, reason="diverged", validation=None, test=None)
    gone = confirmation(5)
    found = known(replace(record(), confirmations=(*record().confirmations, lost, gone)))
    assert {member.trial.number: member.failed for member in found.members} == {4: 0, 1: 1, 2: 0}


def test_trainings_that_judged_an_earlier_step_are_counted() -> None:
    """Trial 1 has 90 steps in all."""
    assert known(record()).of_earlier_steps == 0
    earlier = [replace(each, step=30) for each in record().confirmations[:2]]
    mixed = replace(record(), confirmations=(*earlier, *record().confirmations[2:]))
    assert known(mixed).of_earlier_steps == 2
    first, second = mixed.trials[0], mixed.confirmations
    assert [judges_what_ships(first, each) for each in second[:3]] == [False, False, True]


@pytest.mark.parametrize(
    "odd",
    [
        Answers(0.5, 0, b""),
        Answers(0.5, 2**62, b"\0" * 4),
        Answers(math.nan, 400, b"\0" * 1600),
        Answers(0.5, 400, b"\xff" * 1600),
        Answers.of(0.5, np.ones(16)),
    ],
    ids=["no rows", "fewer answers than rows", "not a number", "not numbers", "other rows"],
)
def test_answers_that_cannot_be_compared_count_as_none(odd: Answers) -> None:
    strange = replace(confirmation(1, 4), validation=odd, test=odd)
    found = known(replace(record(), confirmations=(strange, *record().confirmations)))
    assert {member.trial.number: member.failed for member in found.members} == {4: 0, 1: 1, 2: 0}
    assert found.neighbours == known(record()).neighbours


@pytest.mark.parametrize(
    "without",
    [bare(), bare(trial(1)), replace(bare(trial(1)), confirmations=(replace(confirmation(1), validation=None),))],
    ids=["no trials", "no confirmations", "nothing but failures"],
)
def test_where_nothing_was_confirmed_nothing_is_said(without: SearchRecord) -> None:
    assert confirmed(without) is None


def test_one_member_with_one_seed_is_on_the_front() -> None:
    found = known(replace(bare(trial(1)), confirmations=(confirmation(1),)))
    assert (found.members[0].on_front, found.neighbours, found.members[0].validation.deviation) == (1, (), None)


def test_a_spread_of_what_is_no_number_is_no_number() -> None:
    assert math.isnan(Spread((0.5, math.nan)).deviation or 0.0)


def test_of_a_loss_the_lower_one_is_ahead() -> None:
    """The same answers as values of a loss turn everything around, and nothing else changes."""

    def turned(answers: Answers | None) -> Answers | None:
        return answers and Answers.of(1 - answers.score, 1 - answers.of_rows)

    whole = record()
    loss = replace(
        whole,
        metric=score_of("error_rate", "error rate", higher_is_better=False, ideal=0.0),
        trials=tuple(replace(t, curve=tuple(replace(r, score=1 - r.score) for r in t.curve)) for t in whole.trials),
        confirmations=tuple(
            replace(each, validation=turned(each.validation), test=turned(each.test)) for each in whole.confirmations
        ),
    )
    found, expected = known(loss), known(whole)
    assert [member.trial.number for member in found.members] == [4, 1, 2]
    assert [pair.difference for pair in found.neighbours] == pytest.approx([p.difference for p in expected.neighbours])
    assert [pair.apart for pair in found.neighbours] == [False, True]
    assert found.excess == pytest.approx(expected.excess)
    assert found.members[0].validation.mean == pytest.approx(1 - expected.members[0].validation.mean)
