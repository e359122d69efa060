"""What is believed of accuracies."""

import math

import numpy as np
import pytest

from autopeft.searching.samplers.parts.features import Described
from autopeft.searching.samplers.parts.gains import Gains, Result

RATES = (-1.0, -0.5, 0.0, 0.5, 1.0)


def at(rate: float) -> Described:
    return Described({"speed": {"mean": rate}})


def seen(accuracies: dict[float, float], doubt: float = 0.0) -> list[Result]:
    return [Result(at(rate), 10.0, accuracy, doubt) for rate, accuracy in accuracies.items()]


def believed(results: list[Result], rate: float) -> float:
    return float(Gains(results, []).judged([(at(rate), 10.0)]).means[0])


def test_a_failure_counts_as_the_worst_that_did_not_fail() -> None:
    shown = {-1.0: 0.7, -0.5: 0.8, 0.0: 0.85}
    failed = seen({**shown, 1.0: -math.inf})
    assert believed(failed, 1.0) == pytest.approx(believed(seen({**shown, 1.0: 0.7}), 1.0))


def test_larger_candidates_than_any_so_far_are_believed_to_be_better_where_larger_ones_were_better() -> None:
    grown = [Result(at(0.0), size, 0.6 + 0.02 * size, 0.0) for size in (6.0, 7.0, 8.0, 9.0, 10.0)]
    shrunk = [Result(at(0.0), size, 1.0 - 0.02 * size, 0.0) for size in (6.0, 7.0, 8.0, 9.0, 10.0)]
    larger = [(at(0.0), 16.0)]
    (up,) = Gains(grown, []).judged(larger).means
    (down,) = Gains(shrunk, []).judged(larger).means
    assert up > 0.82
    assert down < 0.78


def test_a_method_that_always_failed_hardly_survives_elsewhere_however_much_little_things_matter_to_accuracy() -> None:
    def of(method: str, rate: float) -> Described:
        return Described({"form": {method: math.sqrt(0.5)}, "speed": {"mean": rate}})

    rates = np.linspace(-0.5, 0.5, 6)
    results = [
        Result(of("good", rate), 10.0, accuracy, 0.0) for rate, accuracy in zip(rates, [0.9, 0.6] * 3, strict=True)
    ]
    results += [Result(of("bad", rate), 10.0, -math.inf, 0.0) for rate in rates]
    good, bad = Gains(results, []).judged([(of("good", 1.5), 10.0), (of("bad", 1.5), 10.0)]).chances
    assert good > 0.8
    assert bad < 0.2


def test_what_is_near_failures_will_hardly_survive() -> None:
    results = seen({**dict.fromkeys((-1.0, -0.9, -0.8, -0.7), 0.8), **dict.fromkeys((0.8, 0.9, 1.0), -math.inf)})
    chances = Gains(results, []).judged([(at(rate), 10.0) for rate in (-0.85, 0.85)]).chances
    assert chances[0] > 0.9
    assert 0 < chances[1] < 0.1


def test_where_nothing_failed_all_survive() -> None:
    assert (Gains(seen({-1.0: 0.7, 0.0: 0.8, 1.0: 0.75}), []).judged([(at(5.0), 10.0)]).chances == 1).all()


def test_where_all_failed_nothing_is_better_than_anything() -> None:
    means, deviations, _ = Gains(seen(dict.fromkeys(RATES, -math.inf)), []).judged([(at(0.2), 10.0), (at(2.0), 10.0)])
    assert means[0] == means[1]
    assert np.isfinite(deviations).all()


def test_what_may_have_ended_so_counts_less_than_what_did() -> None:
    known = seen({-1.0: 0.8, -0.9: 0.81, -0.8: 0.79, -0.7: 0.8, 0.5: 0.8, 0.6: 0.8})
    sure, unsure = (believed([*known, *seen({1.5: 0.9}, doubt)], 1.5) for doubt in (0.0, 0.1))
    assert unsure < sure - 0.02
