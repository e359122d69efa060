"""How much of prompting is measured in a small part of a search's time, and what is remembered of it."""

from dataclasses import replace

import numpy as np
import pytest

from autopeft.searching.preparing.in_context import ROWS, Extent, Prompting, extent, named
from autopeft.tasks.text_generation import TextGeneration
from autopeft.trial import Baseline
from tests.tasks.examples import made_for


@pytest.mark.parametrize(
    ("rows", "affordable", "expected"),
    [
        (100, 1e9, Extent(100, (1, 4, 8), 3)),
        (100, Extent(100, (1, 4, 8), 3).whole, Extent(100, (1, 4, 8), 3)),
        (100, Extent(100, (1, 4, 8), 3).whole - 1, Extent(75, (1, 4, 8), 3)),
        (100, Extent(30, (1, 4, 8), 3).whole - 1, Extent(50, (1, 4, 8), 1)),
        (100, Extent(30, (1, 4, 8), 1).whole - 1, Extent(50, (1, 4), 1)),
        (100, Extent(30, (1,), 1).whole, Extent(30, (1,), 1)),
        (100, Extent(30, (1,), 1).whole - 1, None),
        (12, Extent(12, (1,), 1).whole, Extent(12, (1,), 1)),
        (12, 0.0, None),
    ],
)
def test_where_time_is_short_rows_draws_and_examples_are_fewer(
    rows: int, affordable: float, expected: Extent | None
) -> None:
    assert extent(rows, affordable) == expected


def test_what_is_planned_is_what_is_read() -> None:
    assert Extent(100, (1, 4, 8), 3).whole == 100 + (2 + 5 + 9) * (100 + 3 * 25)
    assert Extent(100, (1, 4), 1).whole == 100 + (2 + 5) * 100


def test_they_are_called_by_how_many_examples_there_are() -> None:
    assert [named(count) for count in (0, 1, 8)] == [
        "backbone with no example in its prompt",
        "backbone with 1 example in its prompt",
        "backbone with 8 examples in its prompt",
    ]


@pytest.fixture(scope="module")
def prompting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prompting, dict[str, Baseline]]:
    """Of a tiny decoder with 64 positions, and 130 rows to be asked of."""
    from autopeft.plan import Plan
    from autopeft.searching.preparing.baselines import prepare_baselines
    from autopeft.searching.preparing.dataset import prepare_dataset
    from autopeft.space.space import load_space

    folder = made_for(TextGeneration, tmp_path_factory.mktemp("place"), train=40, validation=130)
    dataset = prepare_dataset(
        Plan(str(folder / "model"), str(folder / "data")), folder, "weights", lambda _: None, None
    )
    metric = dataset.data.task.default_metric
    known = prepare_baselines(dataset, load_space("quick"), metric, "weights", lambda _: None)
    return Prompting(dataset, metric, 0), dict(known)


def test_the_backbone_is_asked_with_examples_on_some_of_the_rows_and_without_on_the_same(
    prompting: tuple[Prompting, dict[str, Baseline]],
) -> None:
    asking, known = prompting
    said: list[str] = []
    found = asking.measured(1e6, known, said.append)
    assert [*found] == [*known, *map(named, (0, 1, 4))]
    assert said[-1] == "no row can be read with 8 examples in its prompt", "64 positions are few"
    alone, one, four = (found[named(count)] for count in (0, 1, 4))
    rows, some = alone.rows or (), four.rows or ()
    assert len(rows) == ROWS
    assert rows == tuple(sorted(rows))
    assert rows[-1] < 130
    assert (alone.tokens, alone.left_out) == (0.0, 0)
    assert 1 < (one.tokens or 0) < (four.tokens or 0)
    assert {*some} <= {*rows}
    assert len(some) + four.left_out == ROWS
    assert four.left_out > 0
    for each in (alone, one, four):
        assert each.answers is not None
        assert each.answers.rows == len(each.rows or ())
        assert each.score == pytest.approx(each.answers.of_rows.mean(), rel=1e-5)
    whole = known["backbone as it is"].answers
    assert whole is not None
    assert alone.answers is not None
    assert whole.of_rows[[*rows]].mean() == pytest.approx(alone.score, abs=0.02 * alone.score)
    assert np.corrcoef(whole.of_rows[[*rows]], alone.answers.of_rows)[0, 1] > 0.999


def test_the_same_examples_are_drawn_again_and_others_by_another_seed(
    prompting: tuple[Prompting, dict[str, Baseline]],
) -> None:
    asking, known = prompting
    one, same, other = (
        replace(asking, seed=seed).measured(1e6, known, lambda _: None)[named(1)].score for seed in (3, 3, 4)
    )
    assert one == same != other


def test_what_is_known_is_not_measured_again_and_what_takes_too_long_is_not_measured(
    prompting: tuple[Prompting, dict[str, Baseline]],
) -> None:
    asking, known = prompting
    found = asking.measured(1e6, known, lambda _: None)
    assert asking.measured(1e6, found, pytest.fail) is found
    assert asking.seconds(found) == 0.0
    assert asking.seconds(known) > 0
    said: list[str] = []
    slow = {name: replace(each, seconds=1000.0) for name, each in known.items()}
    assert asking.measured(1.0, slow, said.append) == slow
    assert said == ["examples in the prompt are not measured: they would take too long"]


def test_a_fault_is_told_and_costs_the_search_nothing(
    prompting: tuple[Prompting, dict[str, Baseline]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no\nmemory")

    monkeypatch.setattr(TextGeneration, "in_prompt", broken)
    asking, known = prompting
    said: list[str] = []
    assert asking.measured(1e6, known, said.append) == known
    assert said == ["examples in the prompt are not measured: no memory"]


def test_plain_texts_have_no_prompt() -> None:
    assert TextGeneration("continuation").prompted
    assert TextGeneration("conversation").prompted
    assert not TextGeneration("text").prompted
    assert not TextGeneration("conversation", "all").prompted
