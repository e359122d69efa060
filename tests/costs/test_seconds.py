"""Seconds of trainings, predicted from work and from what others took."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from autopeft.costs.load import Load
from autopeft.costs.rates import Rates
from autopeft.costs.seconds import Seconds
from autopeft.costs.work import Work
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.trial import Costs, Outcome, Rung, Status, Trial

RATES = Rates(flop=1e-11, byte=1e-10, operation=1e-5)
LOAD = Load(np.full(320, 32), np.full(64, 32))
TRAINING = Training(batch_size=32, epochs=3.0)
SETTLED = {"lora": 1.0, "adapter": 0.9, "said": 9.0, "bitfit": 0.8}


def candidate(method: str, training: Training = TRAINING) -> Candidate:
    return Candidate(method, (Part(method),), training)


def costs(size: float = 1.0, stages: Mapping[str, Work] | None = None) -> Costs:
    step = Work(1000, round(2e10 * size), round(1e9 * size), round(2e10 * size), round(9e8 * size))
    evaluation = Work(300, round(7e9 * size), round(3e8 * size), round(7e9 * size), round(3e8 * size))
    named = step.named("step") | evaluation.named("evaluation")
    for stage, work in (stages or {}).items():
        named |= work.named(stage)
    return Costs(1, 1, 1, step.flops, work=named)


def trial(number: int, method: str, size: float, seconds: float, status: Status = Status.FINISHED) -> Trial:
    """Of 30 steps; a stopped one reached the first rung."""
    share = 1.0 if status is Status.FINISHED else 0.1
    curve = (Rung(round(30 * share), 30, 0.5, 0.1, 1.0, seconds * share),)
    outcome = Outcome(status, seconds=seconds * share + 1.0)
    return Trial(number, candidate(method), costs(size), {}, 0, status, curve, outcome)


def learned(*trials: Trial) -> Seconds:
    seconds = Seconds(LOAD, lambda: RATES)
    for each in trials:
        seconds.learn(each)
    return seconds


def test_before_anything_is_measured_seconds_are_those_of_the_work_at_the_devices_rates() -> None:
    expected = learned().expected(candidate("lora"), costs())
    assert expected is not None
    steps = 30 * (2e10 * 1e-11 + 1e9 * 1e-10 + 1000 * 1e-5)
    assert expected.seconds == pytest.approx(steps, rel=0.35)
    assert 0.2 < expected.error / expected.seconds < 1.0


@pytest.mark.parametrize("beside", [10.0, 100.0, 300.0])
def test_a_method_that_takes_long_to_attach_is_known_after_its_first_trial(beside: float) -> None:
    others = [trial(number, method, 1.0, 20.0) for number, method in enumerate(("lora", "adapter", "bitfit"), 1)]
    slow = trial(4, "adamss", 1.0, 20.0)
    slow = replace(slow, outcome=Outcome(Status.FINISHED, seconds=20.0 + beside))
    known = learned(*others, slow)
    assert known(candidate("adamss"), costs()) == pytest.approx(20 + beside, rel=0.1)
    assert known(candidate("lora"), costs()) == pytest.approx(21, rel=0.1)


def test_a_device_that_is_three_times_as_slow_as_measured_is_known_after_one_trial() -> None:
    before = learned()(candidate("bitfit"), costs())
    after = learned(trial(1, "lora", 1.0, 30.0))
    assert after(candidate("bitfit"), costs()) == pytest.approx(30.0 + 1.0, rel=0.2)
    assert after(candidate("bitfit"), costs()) > 2 * before


def test_three_trials_tell_a_fourth_method_from_its_work_and_the_error_shrinks() -> None:
    trials = [
        trial(number, method, SETTLED[method], 20 * SETTLED[method])
        for number, method in enumerate(("lora", "adapter", "bitfit"), 1)
    ]
    expected = learned(*trials).expected(candidate("said"), costs(SETTLED["said"]))
    unknown = learned().expected(candidate("said"), costs(SETTLED["said"]))
    assert expected is not None
    assert unknown is not None
    assert expected.seconds == pytest.approx(20 * SETTLED["said"], rel=0.1)
    assert expected.error / expected.seconds < unknown.error / unknown.seconds


def test_a_method_that_takes_longer_than_its_work_says_is_known_after_its_first_trial() -> None:
    told = learned(trial(1, "lora", 1.0, 20.0), trial(2, "adapter", 1.0, 20.0), trial(3, "said", 1.0, 40.0))
    assert told(candidate("said"), costs(2.0)) == pytest.approx(80.0, rel=0.15)
    assert told(candidate("lora"), costs(2.0)) == pytest.approx(40.0, rel=0.15)


def test_a_trial_that_was_stopped_early_teaches_too() -> None:
    told = learned(trial(1, "lora", 1.0, 60.0, Status.STOPPED))
    assert told(candidate("lora"), costs()) == pytest.approx(60.0, rel=0.2)


def test_one_trial_that_something_held_up_hardly_counts() -> None:
    good = [trial(number, "lora", 1.0, 20.0) for number in range(1, 7)]
    told = learned(*good, trial(7, "lora", 1.0, 200.0))
    assert told(candidate("lora"), costs()) == pytest.approx(21.0, rel=0.1)


def test_shorter_rows_take_less_time_but_not_for_what_is_the_same_for_any_batch() -> None:
    short = Load(np.r_[np.full(310, 8), np.full(10, 32)], np.full(64, 8))
    weights = costs(stages={"step": Work(1000, 10**10, 10**10, 0, 0)})
    for_rows, for_weights = (Seconds(short, lambda: RATES)(candidate("lora"), each) for each in (costs(), weights))
    assert for_rows < 0.6 * learned()(candidate("lora"), costs())
    assert for_weights > 0.9 * learned()(candidate("lora"), weights)


def test_kept_states_of_frozen_layers_shorten_all_passes_but_the_first_and_that_one_too_once_they_are_there() -> None:
    frozen = costs(stages={"frozen": Work(100, 10**10, 10**8, 10**10, 10**8)})
    seconds = learned()
    plain, first = seconds(candidate("lora"), costs()), seconds(candidate("lora"), frozen)
    filled = replace(trial(1, "lora", 1.0, plain), predicted=frozen)
    outcome = Outcome(Status.FINISHED, seconds=plain, facts={"kept_states": 10**6})
    later = learned(
        replace(filled, outcome=outcome), *(trial(number, "adapter", 1.0, plain - 1) for number in (2, 3, 4))
    )
    assert first < 0.8 * plain
    assert later._amounts(candidate("lora"), frozen, 30, 3)[0] < seconds._amounts(candidate("lora"), frozen, 30, 3)[0]


def _of_steps(seconds: Seconds, chosen: Candidate, costs: Costs) -> float:
    """FLOPs of a whole training."""
    return float(seconds._amounts(chosen, costs, 30, 3)[0])


def test_states_that_an_earlier_sitting_kept_are_gone() -> None:
    frozen = costs(stages={"frozen": Work(100, 10**10, 10**8, 10**10, 10**8)})
    kept = Outcome(Status.FINISHED, seconds=20.0, facts={"kept_states": 10**6})
    here, resumed = learned(), learned()
    here.learn(replace(trial(1, "lora", 1.0, 19.0), predicted=frozen, outcome=kept))
    resumed.learn(replace(trial(1, "lora", 1.0, 19.0), predicted=frozen, outcome=kept), earlier=True)
    assert _of_steps(here, candidate("lora"), frozen) < _of_steps(resumed, candidate("lora"), frozen)
    assert _of_steps(resumed, candidate("lora"), frozen) == _of_steps(learned(), candidate("lora"), frozen)


def test_methods_whose_states_could_not_be_kept_are_expected_to_compute_all_of_it() -> None:
    frozen = costs(stages={"frozen": Work(100, 10**10, 10**8, 10**10, 10**8)})
    outcome = Outcome(Status.FINISHED, seconds=20.0, facts={"states_not_kept": "there is room for 0 bytes"})
    told = learned(replace(trial(1, "lora", 1.0, 19.0), predicted=frozen, outcome=outcome))
    assert _of_steps(told, candidate("lora"), frozen) == _of_steps(told, candidate("lora"), costs())
    assert _of_steps(told, candidate("adapter"), frozen) < _of_steps(told, candidate("adapter"), costs())


def test_images_that_are_changed_by_chance_pass_all_layers_each_time() -> None:
    frozen = costs(stages={"frozen": Work(100, 10**10, 10**8, 10**10, 10**8)})
    why_not = Outcome(Status.FINISHED, seconds=20.0, facts={"states_not_kept": "images are changed by chance"})
    flipped = candidate("lora", replace(TRAINING, flip=True))
    told = learned(replace(trial(1, "lora", 1.0, 19.0), candidate=flipped, predicted=frozen, outcome=why_not))
    assert _of_steps(told, flipped, frozen) == _of_steps(told, flipped, costs())
    assert _of_steps(told, candidate("lora"), frozen) < _of_steps(told, candidate("lora"), costs())


def test_what_an_earlier_sitting_took_elsewhere_is_forgotten_once_a_trial_tells_where_this_one_trains() -> None:
    def on(device: str, each: Trial) -> Trial:
        assert each.outcome is not None
        return replace(each, outcome=replace(each.outcome, facts={"device": device, "threads": "2"}))

    told = learned()
    for number in range(1, 7):
        told.learn(on("cpu", trial(number, "lora", 1.0, 900.0)), earlier=True)
    assert told(candidate("lora"), costs()) == pytest.approx(901, rel=0.2)
    told.learn(trial(9, "lora", 1.0, 900.0, Status.STOPPED))
    assert told(candidate("lora"), costs()) == pytest.approx(901, rel=0.2)
    told.learn(on("H200", trial(7, "adapter", 1.0, 10.0)))
    assert told(candidate("lora"), costs()) == pytest.approx(11, rel=0.3)
    same = learned()
    same.learn(on("H200", trial(1, "lora", 1.0, 20.0)), earlier=True)
    same.learn(on("H200", trial(2, "adapter", 1.0, 10.0)))
    assert same(candidate("lora"), costs()) == pytest.approx(21, rel=0.2)


def test_a_mixture_is_told_by_its_parts() -> None:
    told = learned(trial(1, "lora", 1.0, 20.0), trial(2, "said", 1.0, 60.0))
    mixed = Candidate("lora+said", (Part("lora"), Part("said")), TRAINING)
    assert told(candidate("lora"), costs()) < told(mixed, costs()) < told(candidate("said"), costs())


def test_records_that_do_not_tell_their_work_neither_teach_nor_are_predicted() -> None:
    old = replace(costs(), work={})
    told = learned(replace(trial(1, "lora", 1.0, 500.0), predicted=old))
    assert told.expected(candidate("lora"), old) is None
    assert told(candidate("lora"), old) == math.inf
    assert told.timed(candidate("lora"), old) == old
    assert told(candidate("lora"), costs()) == learned()(candidate("lora"), costs())


def test_the_device_is_measured_when_a_prediction_is_first_asked_for_and_once() -> None:
    asked: list[int] = []

    def rates() -> Rates:
        asked.append(1)
        return RATES

    seconds = Seconds(LOAD, rates)
    seconds.learn(trial(1, "lora", 1.0, 20.0))
    assert not asked
    seconds(candidate("lora"), costs())
    seconds.learn(trial(2, "lora", 1.0, 20.0))
    seconds(candidate("lora"), costs())
    assert asked == [1]


def test_what_is_stated_as_error_holds() -> None:
    """Of methods with chances and offsets as expected, two thirds lie within one error, and nearly all within three."""
    rng, off = np.random.default_rng(0), []
    for _ in range(40):
        speed = math.exp(rng.normal(0, 0.3))
        trials = []
        for number in range(1, 5):
            size = math.exp(rng.normal(0, 0.5))
            trials.append(trial(number, f"m{number}", size, 10 * speed * size * math.exp(rng.normal(0, 0.21))))
        last = trials.pop()
        expected = learned(*trials).expected(last.candidate, last.predicted)
        assert expected is not None
        assert last.outcome is not None
        off.append(abs(last.outcome.seconds - expected.seconds) / expected.error)
    assert np.mean(np.array(off) < 1) > 0.5
    assert np.mean(np.array(off) < 3) > 0.95


def test_at_usual_rates_nothing_depends_on_the_device_nor_on_what_was_learned() -> None:
    slow = Seconds(LOAD, lambda: Rates(1e-9, 1e-9, 1e-3))
    slow.learn(trial(1, "lora", 1.0, 900.0))
    assert slow.usual(candidate("lora"), costs()) == learned().usual(candidate("lora"), costs())
    assert slow(candidate("lora"), costs()) > 10 * learned()(candidate("lora"), costs())
    assert slow.usual(candidate("lora"), costs()) < slow.usual(candidate("lora"), costs(2.0))
    assert slow.usual(candidate("lora"), replace(costs(), work={})) == math.inf


def test_the_first_rung_comes_sooner_than_the_end() -> None:
    seconds, part = learned(), learned().to_first_rung(candidate("lora"), costs())
    assert part is not None
    assert 0.0 < part < 0.5 * seconds(candidate("lora"), costs())
    assert seconds.to_first_rung(candidate("lora"), replace(costs(), work={})) is None
