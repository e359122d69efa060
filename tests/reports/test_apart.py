"""Trials of one table, told apart."""

from dataclasses import replace

from autopeft.reports import render
from autopeft.reports.apart import apart
from autopeft.space.candidate import Candidate, Part, Training
from tests.reports.records import BITFIT, HYBRID, LORA, bare, trial


def of(candidate: Candidate, **training: object) -> Candidate:
    return replace(candidate, training=replace(candidate.training, **training))


def test_trials_that_differ_in_their_training_only_are_told_apart_by_what_differs() -> None:
    faster = replace(BITFIT, parts=(replace(BITFIT.parts[0], learning_rate=0.02),))
    told = apart([trial(1, LORA), trial(2, BITFIT), trial(3, of(BITFIT, epochs=2.0)), trial(4, faster)])
    bitfit = "bitfit layers=last 50%"
    assert told == {
        1: "lora rank=8 alpha=16 sites=q,v",
        2: f"{bitfit} (learning rate 0.004, epochs 3)",
        3: f"{bitfit} (learning rate 0.004, epochs 2)",
        4: f"{bitfit} (learning rate 0.02, epochs 3)",
    }


def test_what_differs_in_one_part_of_several_names_the_part_and_equals_stay_alike() -> None:
    lora, adapter = HYBRID.parts
    other = replace(HYBRID, parts=(lora, replace(adapter, weight_decay=0.1)))
    told = apart([trial(1, HYBRID), trial(2, other), trial(3, HYBRID)])
    assert told[2].endswith(" (adapter weight decay 0.1)")
    assert told[1] == told[3] != told[2]
    twice = Candidate("twice", (Part("lora", {"rank": 4}, 1e-3), Part("lora", {"rank": 4}, 2e-3)), Training())
    slower = replace(twice, parts=(twice.parts[0], replace(twice.parts[1], learning_rate=1e-4)))
    assert apart([trial(1, twice), trial(2, slower)])[2].endswith(" (lora 2 learning rate 0.0001)")
    assert apart([]) == {}


def test_tables_of_a_report_tell_them_apart() -> None:
    record = bare(trial(1, BITFIT, memory=10), trial(2, of(BITFIT, batch_size=64), (0.7, 0.9)))
    for format in ("terminal", "html"):
        assert "(batch size 64)" in render(record, format)
