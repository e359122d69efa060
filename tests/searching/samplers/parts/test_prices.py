"""What candidates are estimated to cost, from a few that were predicted."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autopeft.searching.proposer import default_params
from autopeft.searching.samplers.parts.drawing import Drawn
from autopeft.searching.samplers.parts.features import Array, describe, fraction
from autopeft.searching.samplers.parts.prices import Prices
from autopeft.space.candidate import Candidate
from autopeft.space.cards import size_among
from autopeft.space.parameters import Recalled
from autopeft.space.space import load_space
from autopeft.trial import Costs

SPACE = load_space("default").only(("lora", "adapter", "prefix_tuning", "bitfit"))
NAMES = ("trainable", "memory")
OF_KIND = {"lora": 9_000, "adapter": 5_000, "prefix_tuning": 4_600, "bitfit": 25_000}


def costs(candidate: Candidate) -> Costs:
    """Parameters grow with the size and the layers that are adapted, activations with layers and rows."""
    (part,) = candidate.parts
    size = float(str(part.settings.get(size_among(part.settings), 1.0)))
    layers = fraction(part.settings.get("layers", "all"))
    rows = candidate.training.micro_batch_size or candidate.training.batch_size
    activations = rows * (0.1 + 0.9 * layers) * (0.45 if candidate.training.gradient_checkpointing else 1.0)
    return Costs(int(OF_KIND[part.method] * size * layers), int(1e7 * activations), 1, 1)


def params(kind: str, **settings: Any) -> Mapping[str, Any]:
    return {**default_params(SPACE, kind), **{f"{kind}.{name}": value for name, value in settings.items()}}


def candidate_of(kind: str) -> Candidate:
    return SPACE.draw(Recalled(default_params(SPACE, kind)))


def prices(others: int = 0) -> Prices:
    """Knows all kinds at their defaults and so many random candidates."""
    mine, rng = Prices(SPACE, NAMES, costs), np.random.default_rng(0)
    for kind in OF_KIND:
        mine.exact(default_params(SPACE, kind))
    for _ in range(others):
        draws = Drawn(rng)
        SPACE.draw(draws)
        mine.exact(draws.drawn)
    return mine


def drawn(count: int) -> tuple[list[Candidate], Array]:
    """Other random candidates, and the logarithms of what they cost."""
    rng = np.random.default_rng(1)
    candidates = [SPACE.draw(Drawn(rng)) for _ in range(count)]
    return candidates, np.log1p([[costs(each).value(name) for name in NAMES] for each in candidates])


def estimated(mine: Prices, params: Mapping[str, Any]) -> Mapping[str, float]:
    (logs,), _ = mine.estimated([describe(SPACE.draw(Recalled(params)), SPACE.cards)])
    return dict(zip(NAMES, np.expm1(logs), strict=True))


def test_what_was_predicted_is_known_exactly_and_predicted_once() -> None:
    asked = list[str]()

    def noting(candidate: Candidate) -> Costs:
        asked.append(candidate.name)
        return costs(candidate)

    mine = Prices(SPACE, NAMES, noting)
    first, again = (mine.exact(params("lora", rank=4)) for _ in range(2))
    assert first is again is not None
    assert np.expm1(first).round() == pytest.approx([36_000, 320_000_000])
    assert asked == ["lora"]


def test_before_sizes_were_varied_parameters_are_expected_to_grow_with_them() -> None:
    mine = prices()
    whole = estimated(mine, params("lora", rank=8))["trainable"]
    assert estimated(mine, params("lora", rank=32))["trainable"] / whole == pytest.approx(4, rel=0.35)
    assert estimated(mine, params("lora", layers="last 25%"))["trainable"] / whole == pytest.approx(0.25, rel=0.5)


def test_estimates_learn_from_predictions() -> None:
    candidates, exact = drawn(100)
    described = [describe(each, SPACE.cards) for each in candidates]
    few, many = (np.abs(prices(count).estimated(described)[0] - exact).mean(axis=0) for count in (3, 60))
    assert (many < few / 2).all()
    assert many[1] < math.log(1.15)


def test_what_is_known_is_told_as_it_is_and_what_is_not_between_lower_and_higher() -> None:
    mine = Prices(SPACE, NAMES, costs)
    ranks = [params("lora", rank=rank, layers=layers) for rank in (2, 8, 32) for layers in ("all", "last 50%")]
    known = np.array([mine.exact(each) for each in ranks])
    assert (mine.span == [known.min(axis=0), known.max(axis=0)]).all()
    for seen in mine.estimated([describe(SPACE.draw(Recalled(each)), SPACE.cards) for each in ranks]):
        assert seen == pytest.approx(known, abs=0.1)
    others = [describe(SPACE.draw(Recalled(params(kind))), SPACE.cards) for kind in ("bitfit", "lora")]
    (least_unseen, least_alike), (most_unseen, most_alike) = mine.estimated(others)
    assert (least_unseen < least_alike).all()
    assert (most_unseen - least_unseen > 2 * (most_alike - least_alike)).all()


def seconds(candidate: Candidate, costs: Costs) -> float:
    """In proportion to epochs and rows; prefix tuning takes ten times as long."""
    slow = 10.0 if candidate.name == "prefix_tuning" else 1.0
    return slow * candidate.training.epochs * costs.memory / 1e7


def test_seconds_are_known_of_what_was_predicted_and_estimated_of_others() -> None:
    mine, rng = Prices(SPACE, NAMES, costs, seconds), np.random.default_rng(0)
    for _ in range(40):
        draws = Drawn(rng)
        candidate = SPACE.draw(draws)
        mine.exact(draws.drawn)
        assert mine.duration(draws.drawn) == pytest.approx(math.log(seconds(candidate, costs(candidate))))
    candidates, _ = drawn(100)
    exact = [math.log(seconds(each, costs(each))) for each in candidates]
    off = np.abs(mine.durations([describe(each, SPACE.cards) for each in candidates]) - exact)
    assert np.median(off) < 0.2


def test_before_epochs_were_varied_seconds_are_expected_to_grow_with_them() -> None:
    mine = Prices(SPACE, NAMES, costs, seconds)
    for kind in OF_KIND:
        mine.exact(default_params(SPACE, kind))
    whole = {**default_params(SPACE, "lora"), "training.epochs": 1}
    one, three = mine.durations(
        [describe(SPACE.draw(Recalled({**whole, "training.epochs": count})), SPACE.cards) for count in (1, 3)]
    )
    assert three - one == pytest.approx(math.log(3), rel=0.2)


def test_what_is_learned_of_seconds_changes_those_of_what_was_predicted_before() -> None:
    pace = 1.0
    mine = Prices(SPACE, NAMES, costs, lambda *both: pace * seconds(*both))
    mine.exact(params("lora"))
    before = mine.duration(params("lora"))
    pace = 2.0
    assert mine.duration(params("lora")) == pytest.approx(before + math.log(2))


def test_where_nobody_knows_seconds_all_take_as_long() -> None:
    mine = prices()
    assert mine.duration(default_params(SPACE, "lora")) == 0
    assert not mine.durations([describe(each, SPACE.cards) for each in drawn(5)[0]]).any()


def test_time_is_what_is_known_of_it_now() -> None:
    lasts = {"lora": 60.0, "adapter": 60.0}
    mine = Prices(SPACE, ("trainable", "time"), costs, lambda candidate, _: lasts[candidate.name])
    for kind, later in (("lora", 126.4), ("adapter", 60.0)):
        assert mine.exact(default_params(SPACE, kind), replace(costs(candidate_of(kind)), time=60.0)) is not None
        lasts[kind] = later
    now = [mine.exact(default_params(SPACE, kind)) for kind in lasts]
    assert [float(np.expm1(each[1])) for each in now if each is not None] == pytest.approx([130.0, 60.0])
    assert np.expm1(mine.span[:, 1]) == pytest.approx([60.0, 130.0])


def test_what_a_trial_of_an_earlier_version_does_not_tell_teaches_nothing() -> None:
    mine = Prices(SPACE, NAMES, costs, lambda _, costs: 60.0 if costs.stored else math.inf)
    (candidate, *_), _ = drawn(1)
    described = [describe(candidate, SPACE.cards)]
    mine.exact(default_params(SPACE, "lora"), Costs(9_000, 10**8, 0, 1))
    assert mine.durations(described).tolist() == [0.0]
    for kind in ("adapter", "prefix_tuning", "bitfit"):
        mine.exact(default_params(SPACE, kind))
    assert mine.durations(described) == pytest.approx([math.log(60)], abs=1.0)
    overhead = Prices(SPACE, ("overhead", *NAMES), lambda each: replace(costs(each), overhead=0.5))
    overhead.exact(default_params(SPACE, "lora"), Costs(9_000, 10**8, 1, 1))
    overhead.exact(default_params(SPACE, "adapter"))
    assert np.isfinite(overhead.estimated(described)).all()
    assert np.isfinite(overhead.span).all()
