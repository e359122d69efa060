"""Draws lie in the space, and near ones are near."""

from statistics import mean

import numpy as np

from autopeft.searching.samplers.parts.drawing import Drawn
from autopeft.space.parameters import Parameter, Recalled
from autopeft.space.space import load_space

SPACE = load_space("default")


def test_what_is_drawn_lies_in_the_space_and_can_be_recalled() -> None:
    rng = np.random.default_rng(0)
    parent: dict[str, object] | None = None
    for number in range(300):
        draws = Drawn(rng, parent if number % 3 else None, 0.3)
        candidate = SPACE.draw(draws)
        assert SPACE.draw(Recalled(draws.drawn)) == candidate
        parent = draws.drawn


def test_the_same_seed_draws_the_same() -> None:
    def drawn() -> list[object]:
        rng = np.random.default_rng(4)
        return [SPACE.draw(Drawn(rng)) for _ in range(20)]

    assert drawn() == drawn()


def test_near_a_parent_most_values_stay_and_numbers_move_by_small_steps() -> None:
    rng = np.random.default_rng(0)
    first = Drawn(rng, {"method": "lora"}, 0.0)
    SPACE.draw(first)
    kept, steps = [], []
    for _ in range(200):
        near = Drawn(rng, first.drawn, 0.2)
        SPACE.draw(near)
        if near.drawn["method"] == "lora":
            kept.append(mean(near.drawn[name] == value for name, value in first.drawn.items()))
            steps.append(abs(np.log10(near.drawn["lora.learning_rate"] / first.drawn["lora.learning_rate"])))
    assert mean(kept) > 0.75
    assert max(steps) < 1.0


def test_a_method_that_the_parent_is_not_begins_at_its_defaults() -> None:
    draws = Drawn(np.random.default_rng(0), {"method": "adapter", "training.epochs": 3}, 0.0)
    candidate = SPACE.draw(draws)
    assert candidate.parts == SPACE.defaults("adapter").parts
    assert candidate.training.epochs == 3


def test_a_whole_number_stays_whole_and_in_its_range() -> None:
    rng = np.random.default_rng(0)
    parameter = Parameter(3, low=1, high=9)
    drawn = [Drawn(rng).draw("n", parameter) for _ in range(100)]
    drawn += [Drawn(rng, {"n": 9}, 1.0).draw("n", parameter) for _ in range(100)]
    assert all(isinstance(value, int) and 1 <= value <= 9 for value in drawn)
