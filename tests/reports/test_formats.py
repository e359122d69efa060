"""Every format renders every record; the terminal and CSV reports are compared as whole texts."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings

from autopeft.errors import AutopeftError
from autopeft.fronts import latencies
from autopeft.objectives import ACCURACY
from autopeft.reports import confirmations, costs, format_of, formats, render
from autopeft.reports.findings import find
from autopeft.reports.format.terminal import text
from autopeft.trial import SearchRecord, Status
from tests.reports.records import (
    ADAPTER,
    CREATED,
    HYBRID,
    MIB,
    bare,
    baselines,
    confirmation,
    error_of,
    of_a_loss,
    record,
    trial,
)
from tests.storage.drawn import records

EXPECTED = Path(__file__).parent / "expected"
ODD = {
    "without trials": bare(),
    "without trials, still running": bare(ended=False),
    "nothing but failures": bare(trial(1, accuracies=(), status=Status.FAILED, reason="")),
    "nothing but lost trials": bare(trial(1, accuracies=(), status=Status.LOST, reason="the worker was lost: x")),
    "nothing but training": bare(trial(1, accuracies=(), status=Status.TRAINING), ended=False),
    "nothing but stopped": bare(trial(1, accuracies=(0.5,), status=Status.STOPPED, reason="worse than cheaper trials")),
    "one trial": bare(trial(1)),
    "equal trials": bare(trial(1), trial(2), trial(3)),
    "costs of zero": bare(trial(1, trainable=0, memory=0, measured=0)),
    "not a number": bare(trial(1, accuracies=(0.5, float("nan")))),
    "perfect": replace(bare(trial(1, accuracies=(1.0,))), facts={"validation_rows": 10}, baselines=record().baselines),
    "a loss": of_a_loss(),
    "a loss of one trial": replace(of_a_loss(), trials=of_a_loss().trials[:1], baselines={}, facts={}),
    "confirmed once": replace(bare(trial(1), trial(2)), confirmations=(confirmation(1, test=None),)),
    "confirmed in vain": replace(bare(trial(1)), confirmations=(replace(confirmation(1), validation=None),)),
    "no rows": replace(bare(trial(1)), facts={"validation_rows": 0, "versions": None, "labels": ["a"] * 150}),
}


@pytest.mark.parametrize("format", formats())
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_every_format_renders_every_record(format: str, odd: SearchRecord) -> None:
    assert odd.name in render(odd, format) or format == "csv"


@settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(odd=records())
def test_every_record_that_a_database_can_hold_is_rendered_in_every_format(odd: SearchRecord) -> None:
    with patch("autopeft.reports.format.html.get_plotlyjs", return_value="the library, which takes long to copy"):
        for format in formats():
            assert render(odd, format)


def test_all_formats_are_found_by_their_files() -> None:
    assert formats() == ("csv", "html", "json", "terminal")


def test_an_unknown_format_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(AutopeftError, match=r"unknown report format 'jsn'\. Did you mean 'json'\?"):
        render(record(), "jsn")


def test_the_terminal_report_says_all_that_matters() -> None:
    assert text(small(), 100, coloured=False) == (EXPECTED / "report.txt").read_text(encoding="utf-8")


def test_the_terminal_report_marks_the_knee() -> None:
    whole = replace(record(), baselines=baselines(0.509, 0.7))
    said = text(whole, 100, coloured=False)
    knee = find(whole).knee
    assert knee is not None
    assert f" {knee.number} *  " in said
    assert "* the knee: the best trade-off between the objectives" in said


def test_the_terminal_report_is_plain_where_there_is_no_terminal() -> None:
    assert "\x1b" not in render(record(), "terminal")
    assert "\x1b[" in text(record(), 80, coloured=True)


@pytest.mark.parametrize("width", [1, 7, 20, 41, 69, 70, 300])
def test_the_terminal_report_fits_any_width(width: int) -> None:
    said = text(record(), width, coloured=False)
    assert max(len(line) for line in said.splitlines()) <= max(width, 12)


def test_a_narrow_terminal_report_cuts_no_value_off() -> None:
    assert "…" not in text(record(), 60, coloured=False)


def test_a_loss_reads_as_a_loss_in_every_format() -> None:
    lossy = of_a_loss()
    assert [each.number for each in find(lossy).front] == [4, 1, 2, 6]
    assert [each.number for each in find(lossy).better] == [4, 1]
    said = " ".join(text(lossy, 120, coloured=False).split())
    page = render(lossy, "html")
    for told in (
        "Front over cross-entropy, peak memory, trainable",
        "cross-entropy at most 12.5",
        "12.56 ± 0.40 510 MiB",
        "linear probe 13.76 ± 0.26",
        "Trials 4 and 1 cannot be told apart: they differ by 0.20 (95% interval -0.05 to +0.45,",
        "Trial 1 is better than trial 2: by 1.60 (95% interval +",
        "scores on the same validation rows are 0.62 worse on average",
        "Cross-entropy is on validation data (872 rows), from one seed per trial; less is better.",
        "two trials less than about 1.1 apart may differ by chance",
        "Not better than the linear probe, which needs no fine-tuning, by more than chance "
        "(1.645 standard errors of the difference): trials 2, 6.",
    ):
        assert told in said
    assert "Best score: <strong>trial 4</strong>" in page
    assert "cross-entropy 12.56 ± 0.40." in page
    assert "Cross-entropy against trainable parameters" in page
    for each in (said, page.split("<script>")[0]):
        assert "accura" not in each
    whole = json.loads(render(lossy, "json"))
    assert whole["version"] == 2
    assert whole["task"] == "text-regression"
    assert whole["metric"] == {"name": "loss", "heading": "cross-entropy", "higher_is_better": False, "ideal": None}
    assert whole["baselines"]["linear probe"] == {
        "score": 13.7612,
        "error": 0.2612,
        "seconds": 3.5,
        "rows": None,
        "tokens": None,
        "left_out": 0,
        "pace": None,
    }
    assert (whole["trials"][0]["score"], whole["trials"][0]["error"]) == (pytest.approx(12.78), 0.4)
    assert whole["hypervolume"] == pytest.approx(find(lossy).hypervolume)
    row = next(csv.DictReader(io.StringIO(render(lossy, "csv"))))
    assert (row["metric"], float(row["score"]), row["error"]) == ("loss", pytest.approx(12.78), "0.4")


def test_what_single_rows_are_worth_stays_in_the_database() -> None:
    one = trial(1)
    assert one.outcome is not None
    kept = replace(one, outcome=replace(one.outcome, answers=confirmation(1).validation))
    assert all("answers" not in each["outcome"] for each in json.loads(render(bare(kept), "json"))["trials"])


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ("without trials", "No trial was trained."),
        ("without trials, still running", "No trial was trained yet."),
        ("nothing but failures", "No trial finished: 1 trial failed (no reason given)."),
        ("nothing but training", "No trial has finished yet; 1 trial began."),
        ("nothing but stopped", "No trial finished: 1 trial stopped early."),
    ],
)
def test_without_a_front_the_report_says_why(odd: str, said: str) -> None:
    assert said in text(ODD[odd], 100, coloured=False)
    assert said in render(ODD[odd], "html")


def test_lost_trials_are_told_in_every_format_and_not_as_failed() -> None:
    gone = [trial(number, accuracies=(), status=Status.LOST, reason="the worker died\nhere") for number in (2, 3)]
    beside, alone = bare(trial(1), *gone), bare(*gone)
    for each, told in (
        (beside, "3 trials: 1 finished, 2 lost"),
        (beside, "Trials 2, 3 lost: the worker died"),
        (alone, "No trial finished: 2 trials lost (the worker died)."),
    ):
        assert told in text(each, 300, coloured=False)
        assert told in render(each, "html")
    assert "failed" not in text(beside, 300, coloured=False)
    rows = list(csv.DictReader(io.StringIO(render(beside, "csv"))))
    assert [(row["status"], row["reason"]) for row in rows][1] == ("lost", "the worker died")
    assert [each["status"] for each in json.loads(render(beside, "json"))["trials"]] == ["finished", "lost", "lost"]


def test_all_ways_in_which_trials_ended_are_told_where_none_finished() -> None:
    ways = bare(
        trial(1, accuracies=(), status=Status.FAILED, reason="diverged"),
        trial(2, accuracies=(), status=Status.LOST, reason="the worker died"),
        trial(3, accuracies=(0.5,), status=Status.STOPPED),
    )
    said = "No trial finished: 1 trial failed (diverged), 1 trial lost (the worker died), 1 trial stopped early."
    assert said in text(ways, 300, coloured=False)


def test_a_trial_that_finished_without_a_number_is_not_said_to_be_unfinished() -> None:
    said = "No trial is on the front: 1 trial finished without numbers that can be compared."
    assert said in text(ODD["not a number"], 300, coloured=False)


def test_when_all_candidates_were_turned_away_the_report_says_by_what() -> None:
    away = replace(bare(), turned_away={"trainable": 3, "memory": 37})
    said = "No trial was trained: 40 candidates turned away before training (memory 37, trainable 3)."
    assert said in text(away, 100, coloured=False)


@pytest.mark.parametrize(
    ("factor", "since"),
    [
        (1.6, "since then what is predicted counts 1.6 times, and nothing predicted to need as much is trained."),
        (1.0, "since then nothing predicted to need as much is trained."),
    ],
)
def test_what_running_out_of_memory_taught_is_told_where_it_happened(factor: float, since: str) -> None:
    known = {"factor": factor, "ran_out": 500 * MIB}
    taught = replace(record(), facts={**record().facts, "memory_correction": known})
    said = f"A trial predicted to need 500 MiB ran out of memory; {since}"
    for each, wanted in ((taught, 1), (record(), 0)):
        assert text(each, 300, coloured=False).count(said) == wanted
        assert render(each, "html").count(said) == wanted


def test_a_running_search_is_not_reported_as_ended() -> None:
    running = replace(record(), ended=None, facts={**record().facts, "seconds": 61.0})
    assert "1 min 01 s of search; the search is running or was interrupted." in text(running, 300, coloured=False)


def test_the_csv_report_has_a_row_per_trial_and_a_column_per_value() -> None:
    assert render(small(), "csv") == (EXPECTED / "report.csv").read_text(encoding="utf-8")


def test_a_method_that_occurs_twice_keeps_both_settings_in_csv() -> None:
    twice = replace(HYBRID, parts=(HYBRID.parts[1], replace(HYBRID.parts[1], settings={"bottleneck": 99})))
    row = next(csv.DictReader(io.StringIO(render(bare(trial(1, twice)), "csv"))))
    assert (row["adapter.bottleneck"], row["adapter#2.bottleneck"]) == ("16", "99")


def test_the_json_report_is_the_complete_record() -> None:
    whole = json.loads(render(record(), "json"))
    assert whole["front"] == [4, 1, 2, 6]
    assert whole["plan"] == json.loads(json.dumps(record().plan.to_dict()))
    assert whole["turned_away"] == {"memory": 12, "trainable": 2}
    assert {name: each["score"] for name, each in whole["baselines"].items()} == {
        "majority class": 0.509,
        "linear probe": 0.812,
    }
    assert whole["created"] == CREATED.isoformat()
    first = whole["trials"][0]
    assert first["candidate"] == record().trials[0].candidate.to_dict() | {"parts": first["candidate"]["parts"]}
    assert first["candidate"]["parts"][0]["settings"]["sites"] == ["q", "v"]
    assert [rung["score"] for rung in first["curve"]] == [0.70, 0.82, 0.861]
    assert first["outcome"]["measured"]["memory"] == 404 * MIB
    assert [each["status"] for each in whole["trials"]].count("failed") == 2


def test_a_confirmed_front_is_shown_beside_the_scores_of_the_search() -> None:
    said = text(record(), 120, coloured=False)
    page = render(record(), "html")
    for told in (
        "Front trained again with 3 seeds, judged on 400 test rows",
        "Trials 4 and 1 cannot be told apart: they differ by 0.010 (95% interval ",
        "Trial 1 is better than trial 2: by 0.080 (95% interval ",
        "scores on the same validation rows are 0.031 worse on average",
        "Not confirmed: trial 6.",
    ):
        assert told in " ".join(said.split())
        assert told in page
    assert [line.split()[0] for line in said.splitlines() if line.endswith("%") and "±" in line] == ["4", "1", "2"]


def test_a_front_confirmed_on_validation_rows_or_by_one_seed_is_not_made_more_of() -> None:
    rows = text(ODD["confirmed once"], 300, coloured=False)
    assert "judged on 400 validation rows" in rows
    assert "There is no test split" in rows
    assert "With a single seed each" in rows
    failed = replace(confirmation(1, 4), status=Status.FAILED, reason="diverged", validation=None, test=None)
    lost = replace(record(), confirmations=(*record().confirmations, failed))
    assert "Trained again and failed, trial 1: diverged" in text(lost, 300, coloured=False)


@pytest.mark.parametrize("how", [Status.FAILED, Status.LOST])
def test_a_confirmation_that_came_to_nothing_is_told_also_where_all_did(how: Status) -> None:
    gone = replace(confirmation(1), status=how, reason="no more\nroom", validation=None, test=None)
    in_vain = replace(bare(trial(1)), confirmations=(gone,))
    for said in (
        f"Trained again and {how}, trial 1: no more",
        "`autopeft confirm` trains once more what is on the front.",
    ):
        assert said in text(in_vain, 300, coloured=False)
        assert said in render(in_vain, "html")
    assert find(in_vain).confirmed is None


def test_confirmations_that_judged_the_best_rung_are_told_apart() -> None:
    assert "best of three rungs" not in text(record(), 300, coloured=False)
    earlier = replace(record().confirmations[0], step=30)
    mixed = replace(record(), confirmations=(earlier, *record().confirmations[1:]))
    said = "1 training judged the best of three rungs, as earlier versions of autopeft did, not the last step"
    assert said in text(mixed, 300, coloured=False)
    assert said in render(mixed, "html")
    assert json.loads(render(mixed, "json"))["confirmed"]["of_earlier_steps"] == 1


@pytest.mark.parametrize("odd", ["a text", None, [], True, 10**400, {"factor": "x"}], ids=str)
def test_facts_of_another_kind_are_left_out(odd: object) -> None:
    of_trial = dict.fromkeys(("latency", "latency_bare", "set_up_seconds", "examples_per_second", "bytes_on_disk"), odd)
    of_search = dict.fromkeys(
        ("data", "labels", "warm_start", "versions", "refused", "memory_correction", "validation_rows", "seconds"), odd
    )
    one = trial(1)
    assert one.outcome is not None
    strange = replace(bare(replace(one, outcome=replace(one.outcome, facts=of_trial))), facts=of_search)
    for format in formats():
        assert render(strange, format)


def test_confirmations_are_in_json_and_csv_without_their_bits() -> None:
    whole = json.loads(render(record(), "json"))
    assert len(whole["confirmations"]) == 9
    assert whole["confirmations"][0]["test"] == {
        "score": 0.835,
        "error": pytest.approx(error_of(0.835, 400)),
        "rows": 400,
    }
    assert [each["trial"] for each in whole["confirmed"]["members"]] == [4, 1, 2]
    assert whole["confirmed"]["members"][1]["test"]["mean"] == pytest.approx(0.84)
    assert [each["apart"] for each in whole["confirmed"]["neighbours"]] == [False, True]
    rows = list(csv.DictReader(io.StringIO(render(record(), "csv"))))
    assert [row["confirmed_seeds"] for row in rows] == ["3", "3", "", "3", "", "", "", ""]
    assert float(rows[0]["confirmed_test"]) == pytest.approx(0.84)
    assert float(rows[0]["front_probability"]) == 1


def test_the_json_report_holds_no_number_that_json_does_not_know() -> None:
    whole = json.loads(render(ODD["not a number"], "json"), parse_constant=lambda name: pytest.fail(name))
    assert whole["trials"][0]["score"] is None


def small() -> SearchRecord:
    """Few enough trials to read their whole report."""
    whole = record()
    return replace(
        whole,
        confirmations=(),
        trials=(whole.trials[0], trial(2, ADAPTER, (0.81,), 300_000, 390 * MIB, seconds=9.25), *whole.trials[2:3]),
    )


@pytest.mark.parametrize(
    ("name", "format"),
    [("x.html", "html"), ("x.JSON", "json"), ("x.csv", "csv"), ("x.txt", "terminal"), ("x", "terminal")],
)
def test_the_ending_of_a_file_says_its_format(name: str, format: str) -> None:
    assert format_of(Path(name)) == format


def test_an_ending_of_no_format_is_refused() -> None:
    with pytest.raises(AutopeftError, match=r"a report is written as csv, html, json or txt, not as 'pdf'; say which"):
        format_of(Path("x.pdf"))


def test_scores_that_other_seeds_give_again_are_neither_better_nor_worse() -> None:
    found = find(record())
    assert found.confirmed is not None
    alike = replace(found, confirmed=replace(found.confirmed, excess=0.0001))
    assert (
        "the same validation rows are on average the same as in the search" in confirmations.lines(record(), alike)[2]
    )


def test_latency_is_told_as_limits_are_held_against_it() -> None:
    timed = [
        replace(each, outcome=replace(each.outcome, facts={"latency": 1.5 * bare_one, "latency_bare": bare_one}))
        for each, bare_one in ((trial(1), 0.004), (trial(2), 0.002), (trial(3), 0.002))
        if each.outcome is not None
    ]
    for each in timed:
        told = dict(costs.lines(each, ACCURACY, latencies(timed)))
        assert told["latency"] == "3 ms for one row (bare backbone 2 ms)"
        assert costs.cells(each, latencies(timed))[-2:] == ("3 ms", "2 ms")
