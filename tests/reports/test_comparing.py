"""Searches beside each other: who is ahead beyond chance, row by row where both answered the same rows."""

from dataclasses import replace

import numpy as np
import pytest

from autopeft.confirmed import Spread
from autopeft.errors import AutopeftError
from autopeft.objectives import ACCURACY, score_of
from autopeft.reports.comparing import compare
from autopeft.reports.drawing import glance, plot
from autopeft.reports.findings import find
from autopeft.reports.gains import Shown, between
from autopeft.reports.tables import beside
from autopeft.trial import Answers, SearchRecord
from tests.reports.records import bare, of_a_loss, record, trial


def shown(*right: np.ndarray) -> Shown:
    answers = [Answers.of(float(each.mean()), each) for each in right]
    return Shown(Spread(tuple(each.score for each in answers)), answers[0].error, answers)


def answered(name: str, right: np.ndarray, fingerprint: str = "same") -> SearchRecord:
    """A search with one trial, and what it answered on every row."""
    one = trial(1, accuracies=(float(right.mean()),))
    assert one.outcome is not None
    outcome = replace(one.outcome, answers=Answers.of(float(right.mean()), right))
    facts = {"data_fingerprint": fingerprint, "validation_rows": len(right)}
    return replace(bare(replace(one, outcome=outcome)), name=name, facts=facts, task="text-classification")


EASY = np.arange(400) < 340
HARD = np.arange(400) < 330


def test_a_small_difference_on_the_same_rows_is_sure_and_on_other_rows_is_not() -> None:
    assert between(shown(EASY), shown(HARD), ACCURACY, same_rows=True).is_sure
    assert not between(shown(EASY), shown(HARD), ACCURACY, same_rows=False).is_sure
    assert not between(shown(EASY), shown(EASY), ACCURACY, same_rows=True).is_sure


def test_two_that_differ_as_often_either_way_cannot_be_told_apart() -> None:
    mixed = np.roll(EASY, 60)
    mixed[:3] = True
    apart = between(shown(EASY), shown(mixed), ACCURACY, same_rows=True)
    assert not apart.is_sure
    assert apart.rows == 400


def test_less_is_better_where_the_metric_says_so() -> None:
    loss = score_of("loss", "loss", higher_is_better=False, ideal=0.0)
    assert between(shown(EASY), shown(HARD), loss, same_rows=True).by < 0


def test_seeds_that_differ_make_a_difference_less_sure() -> None:
    alike, spread = shown(EASY, EASY), shown(np.arange(400) < 390, np.arange(400) < 290)
    assert between(alike, shown(HARD, HARD), ACCURACY, same_rows=True).is_sure
    assert not between(spread, shown(HARD, HARD), ACCURACY, same_rows=True).is_sure


def test_a_comparison_names_who_is_ahead_and_how_it_was_found_out() -> None:
    said = compare([answered("a", HARD), answered("b", EASY)])
    assert said.lines[0] == "B is ahead of A by 0.025 ± 0.008 (row by row on 400 rows), which is more than chance."
    assert [row[1] for row in said.table.rows] == ["A: a", "B: b"]
    assert all(len(cells) + 1 == len(said.table.headings) for _, _, cells in said.table.rows)
    other = compare([answered("a", HARD), replace(answered("b", EASY, "other"), plan=answered("a", HARD).plan)])
    assert other.lines[0].startswith("A and B cannot be told apart: they differ by 0.025")
    assert "each with rows of its own" in other.lines[0]


def test_searches_of_other_data_or_of_another_metric_are_refused() -> None:
    with pytest.raises(AutopeftError, match="same data, task and metric"):
        compare([record(), replace(of_a_loss(), name="loss")])
    with pytest.raises(AutopeftError, match="two to 5 different searches"):
        compare([record(), record()])


def test_searches_without_a_front_have_their_rows_too() -> None:
    said = compare([replace(record(), name="a"), replace(record(), name="b", trials=())])
    assert said.table.rows[1][2][1] == "none"
    assert all(len(cells) + 1 == len(said.table.headings) for _, _, cells in said.table.rows)


def test_neighbours_of_a_choice_are_the_next_ones_in_score() -> None:
    found = find(record())
    assert [each.number for each in found.front] == [4, 1, 2, 6]
    assert [(what, each.number) for what, each in beside(found, found.front[1])] == [
        *(("next better", 4), ("chosen", 1), ("next cheaper", 2))
    ]
    dominated = next(each for each in record().trials if each.number == 5)
    assert [each.number for _, each in beside(found, dominated)] == [2, 5, 6]


def test_a_plot_of_several_fronts_names_them_by_letters_and_one_of_nothing_is_nothing() -> None:
    front = find(record()).front
    both = str(plot([(record(), front), (record(), front)]))
    assert both.count(">A</text>") == both.count(">B</text>") == 4
    assert both.count("<polyline") == 2
    assert str(plot([(record(), front)], 4)).count("chosen") == 1
    assert plot([(bare(), ())]) == ""
    assert "points=" in glance(())
