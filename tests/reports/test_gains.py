"""What does not beat the best baseline by more than chance is recommended nowhere, and that is said."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.confirmed import Spread
from autopeft.plan import Plan
from autopeft.reports import render
from autopeft.reports.findings import find, knee_line, no_gain
from autopeft.reports.format.terminal import text
from autopeft.reports.gains import better, exceeds, exceeds_by_rows
from autopeft.reports.plots import plots
from autopeft.trial import Answers, Rung, SearchRecord
from tests.reports.records import CREATED, MIB, bare, baselines, confirmation, of_a_loss, record, trial

NOTHING = "Nothing on the front beats the linear probe (0.795 ± 0.014) by more than chance."


def judged(*accuracies: float, probe: float = 0.795, majority: float = 0.5, rows: int | None = 872) -> SearchRecord:
    """A front of trials, each dearer than the one before."""
    trials = tuple(
        trial(number, accuracies=(0.5, each), trainable=1000 * 2**number, memory=(100 + number) * MIB)
        for number, each in enumerate(accuracies, 1)
    )
    facts = {} if rows is None else {"validation_rows": rows}
    return SearchRecord("judged", Plan("mini", "a.csv"), CREATED, trials, baselines(majority, probe), CREATED, facts)


@pytest.mark.parametrize(
    ("accuracy", "baseline", "rows", "beats"),
    [
        (0.795, 0.795, 872, False),
        (0.794, 0.795, 872, False),
        (0.820, 0.795, 872, False),
        (0.830, 0.795, 872, True),
        (0.797, 0.795, 872_000, True),
        (1.0, 0.9, 10, False),
        (1.0, 0.5, 10, True),
        (1.0, 0.0, 1, False),
        (1.0, 1.0, 872, False),
        (0.796, 0.795, None, True),
        (0.795, 0.795, None, False),
    ],
)
def test_a_baseline_is_beaten_by_more_than_the_error_of_the_difference(
    accuracy: float, baseline: float, rows: int | None, beats: bool
) -> None:
    assert exceeds(Spread((accuracy,)), baseline, rows) is beats


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**6))
def test_more_accuracy_never_beats_less(one: float, other: float, baseline: float, rows: int) -> None:
    less, more = sorted((one, other))
    assert exceeds(Spread((more,)), baseline, rows) >= exceeds(Spread((less,)), baseline, rows)


@pytest.mark.parametrize(("chance", "rows"), [(0.5, 100), (0.8, 872), (0.97, 300)])
def test_what_is_as_good_as_a_baseline_beats_it_once_in_twenty_times(chance: float, rows: int) -> None:
    mine, its = np.random.default_rng(0).binomial(rows, chance, (2, 10_000)) / rows
    beaten = sum(exceeds(Spread((float(one),)), float(other), rows) for one, other in zip(mine, its, strict=True))
    assert 0.02 < beaten / 10_000 <= 0.056


def test_seeds_that_disagree_make_a_gain_less_sure() -> None:
    assert exceeds(Spread((0.83, 0.83, 0.83)), 0.795, 872)
    assert not exceeds(Spread((0.73, 0.83, 0.93)), 0.795, 872)


def test_a_trial_no_better_than_the_probe_is_never_the_best_trade_off() -> None:
    """The cheapest trial would be it, by far: it has nearly all the accuracy."""
    alike = replace(judged(0.795, 0.835, 0.84, 0.86), baselines={})
    assert find(alike).knee == alike.trials[0]
    found = find(judged(0.795, 0.835, 0.84, 0.86))
    assert [each.number for each in found.better] == [4, 3, 2]
    assert found.knee in found.better
    assert (
        knee_line(found) == "* the knee: the best trade-off among those that beat the linear probe by more than chance"
    )


def test_where_nothing_beats_the_probe_every_format_says_so_and_recommends_nothing() -> None:
    in_vain = judged(0.795, 0.80, 0.805, 0.81)
    found = find(in_vain)
    assert (found.better, found.knee, knee_line(found)) == ((), None, "")
    said, page = text(in_vain, 120, coloured=False), render(in_vain, "html")
    assert NOTHING in said
    assert NOTHING in page
    assert "knee" not in said
    assert "Best trade-off" not in page
    assert '<tr class="knee">' not in page
    assert "knee" not in json.dumps([plot.figure for plot in plots(in_vain, found)])
    whole = json.loads(render(in_vain, "json"))
    assert (whole["knee"], whole["better_than_baselines"]) == (None, [])
    assert {row["knee"] for row in csv.DictReader(io.StringIO(render(in_vain, "csv")))} == {"0"}
    assert NOTHING not in text(judged(0.795, 0.80, 0.805, 0.87), 120, coloured=False)


def test_the_majority_class_is_the_one_to_beat_where_the_probe_is_worse() -> None:
    found = find(judged(0.85, 0.86, probe=0.7, majority=0.9))
    assert found.better == ()
    assert "the majority class (0.900 ± 0.010)" in found.beats_nothing


@pytest.mark.parametrize("probe", [float("nan"), float("inf")])
def test_a_baseline_that_is_no_number_is_none(probe: float) -> None:
    found = find(judged(0.6, 0.7, 0.8, probe=probe))
    assert found.baseline == ("majority class", baselines(0.5, probe)["majority class"])
    assert len(found.better) == 3


def test_without_baselines_everything_may_be_recommended() -> None:
    found = find(bare(trial(1), trial(2, accuracies=(0.9,), trainable=99_999)))
    assert found.better == found.front
    assert found.beats_nothing == ""


def test_a_confirmed_member_counts_with_its_further_seeds() -> None:
    lucky = judged(0.86)
    assert better(lucky, lucky.trials, lucky.baselines["linear probe"], 872, None) == lucky.trials
    again = tuple(replace(confirmation(1, repeat, 0.80, rows=872), step=60) for repeat in (1, 2, 3))
    assert find(replace(lucky, confirmations=again)).better == ()
    of_a_rung = tuple(replace(each, step=30) for each in again)
    assert find(replace(lucky, confirmations=of_a_rung)).better == lucky.trials


def test_where_rows_are_known_a_trial_and_a_baseline_are_compared_row_by_row() -> None:
    """Six rows more on the same rows are a gain that is lost where each has rows of its own."""
    its = np.arange(872) < 693
    mine = its | (np.arange(872) >= 862)
    one = judged(float(mine.mean()))
    with_rows = replace(
        one,
        baselines={"linear probe": replace(one.baselines["linear probe"], answers=Answers.of(0.795, its))},
        trials=tuple(
            replace(each, outcome=replace(each.outcome, answers=Answers.of(each.score or 0, mine)))  # type: ignore[type-var]
            for each in one.trials
        ),
    )
    assert find(one).better == ()
    assert find(with_rows).better == with_rows.trials


@pytest.mark.parametrize("rows", [30, 400])
def test_row_by_row_chance_is_taken_for_a_gain_once_in_twenty_times(rows: int) -> None:
    rng = np.random.default_rng(0)
    taken = 0
    for _ in range(2000):
        difficulty = rng.normal(size=rows)
        mine, its = (difficulty < rng.normal(0.8, 0.5, rows) for _ in range(2))
        taken += exceeds_by_rows((mine * 1.0 - its)[None])
    assert taken / 2000 <= 0.06


@pytest.mark.parametrize(("score", "beats"), [(12.0, True), (13.2, False), (14.5, False)])
def test_of_a_loss_less_beats_more(score: float, beats: bool) -> None:
    lossy = of_a_loss()
    one = replace(lossy.trials[0], curve=(Rung(1, 1, score, 0.4, 1.0, 1.0),))
    alone = replace(lossy, trials=(one,), confirmations=())
    assert (find(alone).better == (one,)) is beats
    assert find(alone).baseline == ("linear probe", lossy.baselines["linear probe"])


def test_a_trial_that_does_not_beat_the_baseline_is_selected_with_a_word() -> None:
    in_vain, worth = judged(0.80), judged(0.88)
    assert no_gain(in_vain, in_vain.trials[0]) == (
        "It does not beat the linear probe (0.795 ± 0.014), which needs no fine-tuning, by more than chance."
    )
    assert no_gain(worth, worth.trials[0]) == ""
    assert no_gain(bare(trial(1)), trial(1)) == ""


def test_members_that_do_not_beat_it_are_named() -> None:
    assert "Not better than the linear probe" in text(record(), 300, coloured=False)
