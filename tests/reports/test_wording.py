"""Candidates and findings in words."""

from dataclasses import replace

import pytest

from autopeft.objectives import ACCURACY, Objective, score_of, show
from autopeft.reports.findings import emptiness, failure_lines, find, notes, plan_lines, tally
from autopeft.reports.wording import describe, describe_fully, numbers
from autopeft.space.candidate import Candidate, Part
from autopeft.trial import SearchRecord, Status
from tests.reports.records import BITFIT, HYBRID, LORA, bare, record, trial

LOSS = score_of("loss", "loss", higher_is_better=False, ideal=None)


def test_a_short_description_leaves_out_what_is_not_in_play() -> None:
    assert describe(LORA) == "lora rank=8 alpha=16 sites=q,v"
    assert describe(HYBRID) == "lora_parallel: lora rank=4 sites=q,v + adapter bottleneck=16"
    assert describe(Candidate("a+b", (Part("a"), Part("b", {"x": 0.00012345, "y": True})))) == "a + b x=0.000123 y"


def test_values_that_only_code_reads_are_told_in_words() -> None:
    settings = {"start": True, "factor": -1, "dora": True, "orthogonal": False}
    assert describe(Candidate("lora", (Part("lora", settings),))) == "lora init default factor auto dora"
    assert "lora init default factor auto dora no orthogonal (" in describe_fully(
        Candidate("lora", (Part("lora", settings),))
    )
    pissa = {"start": "pissa_niter_4", "factor": 4}
    assert describe(Candidate("lora", (Part("lora", pissa),))) == "lora init pissa factor=4"


def test_a_full_description_has_learning_rates_and_training() -> None:
    assert describe_fully(BITFIT) == (
        "bitfit biases=all layers=last 50% (learning rate 0.004, weight decay 0.01); head from probe (learning rate "
        "0.001), mean pooling, batch 16, 3 epochs, warmup 0.06, clip 1"
    )
    assert describe_fully(HYBRID).endswith(
        "batch 32 in steps of 8, 3 epochs, warmup 0.06, clip 1, gradient checkpointing"
    )


def test_a_full_description_says_how_images_are_changed() -> None:
    changed = replace(LORA, training=replace(LORA.training, flip=True, shift=0.125))
    assert describe_fully(changed) == f"{describe_fully(LORA)}, flips, shifts 0.125"


@pytest.mark.parametrize(
    ("objective", "value", "said"),
    [
        ("score", 0.8614, "0.861"),
        ("memory", 402 * 1024**2, "402 MiB"),
        ("stored", 2048, "2.00 KiB"),
        ("trainable", 73_728, "73.7k"),
        ("flops", 2.5e12, "2.50T"),
        ("score", None, "-"),
        ("score", float("nan"), "-"),
    ],
)
def test_values_are_shown_with_their_units(objective: str, value: float | None, said: str) -> None:
    assert show(objective, value) == said


def test_long_lists_of_trials_are_cut() -> None:
    assert numbers((4,)) == "trial 4"
    assert numbers(tuple(range(1, 12)), most=3) == "trials 1, 2, 3 and 8 more"


@pytest.mark.parametrize(
    ("metric", "value", "error", "said"),
    [
        (ACCURACY, 0.8614, 0.0117, "0.861 ± 0.012"),
        (ACCURACY, 0.8614, None, "0.861"),
        (ACCURACY, None, 0.1, "-"),
        (LOSS, 0.43211, 0.0123, "0.432 ± 0.012"),
        (LOSS, 12.3456, 0.561, "12.35 ± 0.56"),
        (LOSS, 1234.5, 23.4, "1234 ± 23"),
        (LOSS, 0.00012345, 0.0000021, "0.0001234 ± 0.0000021"),
        (LOSS, 0.43211, 0.0, "0.4321 ± 0"),
        (LOSS, 0.43211, float("nan"), "0.4321"),
    ],
)
def test_a_score_is_shown_in_as_many_digits_as_its_error_allows(
    metric: Objective, value: float | None, error: float | None, said: str
) -> None:
    assert metric.show_with(value, error) == said


def test_the_front_is_shown_with_the_best_first_and_failures_by_reason() -> None:
    found = find(record())
    assert [each.number for each in found.front] == [4, 1, 2, 6]
    assert found.failures == {"out of memory: tried to allocate 2 GiB": (3, 7)}
    assert [(each.name, each.trials, each.failed) for each in found.methods] == [
        ("lora_parallel", 2, 0),
        ("lora", 2, 0),
        ("bitfit", 1, 0),
        ("adapter", 3, 2),
    ]


def test_lost_trials_are_told_apart_from_failed_ones() -> None:
    gone, defect = "the worker was lost: killed\nat line 3", "RuntimeError: a defect"
    lost = [trial(number, BITFIT, (), status=Status.LOST, reason=gone) for number in (2, 3)]
    told = bare(trial(1), *lost, trial(4, BITFIT, (), status=Status.FAILED, reason=defect))
    found = find(told)
    assert tally(told, found).startswith("4 trials: 1 finished, 1 failed, 2 lost; ")

    assert failure_lines(found) == ("Trials 2, 3 lost: the worker was lost: killed", f"Trial 4 failed: {defect}")
    assert {each.name: each.failed for each in found.methods} == {"lora": 0, "bitfit": 1}
    none = bare(*lost)
    assert emptiness(none, find(none)) == "No trial finished: 2 trials lost (the worker was lost: killed)."


def test_a_front_of_two_has_no_knee() -> None:
    assert find(bare(trial(1), trial(2, accuracies=(0.9,), trainable=99_999))).knee is None


def test_trials_that_do_not_beat_the_probe_by_more_than_chance_are_named() -> None:
    assert any("Not better than the linear probe" in line and "trials 2, 6." in line for line in notes(find(record())))


def test_columns_are_those_that_the_plan_speaks_of() -> None:
    def columns(each: SearchRecord) -> tuple[str, ...]:
        return find(each).short_headings

    assert columns(record()) == ("accuracy", "memory", "trainable")
    flops = replace(record(), plan=replace(record().plan, objectives=("score", "flops")))
    assert columns(flops) == ("accuracy", "memory", "trainable", "flops")


def test_a_plan_is_told_with_its_limits() -> None:
    said = dict(plan_lines(record()))
    assert said["budget"] == "peak memory at most 1.00 GiB, trainable at most 1%"
    assert said["search"] == "at most 8 trials"
    assert "memory (less is better)" in said["objectives"]


@pytest.mark.parametrize(("trials", "said"), [(None, True), (9, True), (2, False)])
def test_a_search_that_ended_by_its_time_says_so(trials: int | None, said: bool) -> None:
    known = bare(trial(1), trial(2))
    known = replace(known, plan=replace(known.plan, trials=trials, time=1800.0))
    told = tally(known, find(known))
    assert ("; the search ended because its time of 30 min 00 s was over." in told) is said
    running = replace(known, ended=None)
    assert tally(running, find(running)).endswith("; the search is running or was interrupted.")
