"""What a search begins with follows from costs, spans the front and keeps the budget."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from autopeft.errors import CannotAttach
from autopeft.objectives import Objective, objectives_named
from autopeft.searching.portfolio import by_hand, in_order, portfolio
from autopeft.searching.proposer import default_params
from autopeft.searching.samplers.parts.features import fraction
from autopeft.space.beginnings import Beginning
from autopeft.space.candidate import Candidate
from autopeft.space.parameters import Recalled
from autopeft.space.space import load_space
from autopeft.trial import Costs

OBJECTIVES = objectives_named(("score", "memory", "trainable"))
MIB = 2**20
MINILM: Mapping[str, tuple[int, int]] = {
    "adalora": (110_736, 325),
    "adamix": (556_416, 505),
    "adapter": (297_600, 316),
    "bitfit": (25_728, 320),
    "compacter": (14_752, 337),
    "fishmask": (112_826, 407),
    "full": (22_565_376, 578),
    "ia3": (13_824, 399),
    "krona": (9_984, 328),
    "krona_b": (4_608, 320),
    "lora": (73_728, 324),
    "lora_parallel": (371_328, 345),
    "mam": (2_643_296, 387),
    "norm_tuning": (9_984, 320),
    "p_tuning": (270_720, 461),
    "prefix_tuning": (92_160, 350),
    "prompt_tuning": (3_840, 388),
    "said": (1_000, 755),
    "top_layers": (1_774_464, 162),
    "unipelt": (2_871_608, 446),
    "vera": (7_680, 359),
}
"""Trainable parameters and peak memory in MiB of methods at their defaults, predicted on MiniLM."""
NAMES = tuple(MINILM)
COSTS = [Costs(trainable, memory * MIB, 4 * trainable, 1) for trainable, memory in MINILM.values()]


def names(objectives: tuple[Objective, ...] = OBJECTIVES, most: int = 8) -> list[str]:
    return [NAMES[at] for at in in_order(COSTS, objectives, most)]


def test_the_first_eight_on_minilm_span_the_front() -> None:
    first = names()
    assert {"lora", "adapter", "bitfit", "norm_tuning"} <= set(first)
    assert "prompt_tuning" in first, "nearly the fewest parameters"
    assert "top_layers" in first, "the least memory by far"


def test_what_is_dear_in_every_respect_comes_late() -> None:
    order = names(most=len(NAMES))
    assert sorted(order) == sorted(NAMES)
    assert {"full", "said", "unipelt", "adamix"}.isdisjoint(order[:8])


def test_the_order_does_not_depend_on_how_far_off_an_outlier_is() -> None:
    farther = [
        Costs(each.trainable, each.memory * 10, 1, 1) if name == "said" else each
        for name, each in zip(NAMES, COSTS, strict=True)
    ]
    assert in_order(farther, OBJECTIVES, 8) == in_order(COSTS, OBJECTIVES, 8)


def test_without_costs_among_the_objectives_the_largest_comes_first() -> None:
    assert names(objectives_named(("score",)), 2) == ["full", "unipelt"]


@pytest.mark.parametrize("objectives", [("score", "trainable"), ("score", "memory", "trainable", "stored", "flops")])
def test_any_objectives_give_an_order_of_distinct_candidates(objectives: tuple[str, ...]) -> None:
    order = in_order(COSTS, objectives_named(objectives), 30)
    assert sorted(order) == list(range(len(COSTS)))


def test_nothing_is_in_no_order() -> None:
    assert in_order([], OBJECTIVES, 8) == ()


SPACE = load_space("default").only(("lora", "bitfit", "full", "prompt_tuning"))


def predict(candidate: Candidate) -> Costs:
    """As on MiniLM; lean is half."""
    trainable, memory = MINILM[candidate.name]
    share = 0.5 if candidate.training.gradient_checkpointing else 1.0
    return Costs(trainable, int(memory * MIB * share * candidate.training.batch_size / 32), 4 * trainable, 1)


def test_where_memory_counts_the_first_candidates_are_lean_and_otherwise_at_their_defaults() -> None:
    lean = portfolio(SPACE, predict, OBJECTIVES, {})
    assert {params["method"] for params in lean} == set(SPACE.methods)
    assert not any(params["training.gradient_checkpointing"] for params in lean)
    assert {params["training.batch_size"] for params in lean} == {16}
    plain = portfolio(SPACE, predict, objectives_named(("score", "trainable")), {})
    assert sorted(params["method"] for params in plain) == sorted(SPACE.methods)
    assert all(params == default_params(SPACE, params["method"]) for params in plain)


def test_what_breaks_a_limit_is_left_out_unless_checkpointing_keeps_it() -> None:
    kept = portfolio(SPACE, predict, OBJECTIVES, {"trainable": 50_000, "memory": 90 * MIB})
    assert {params["method"] for params in kept} == {"bitfit"}
    assert all(params["training.gradient_checkpointing"] for params in kept)
    plain = portfolio(SPACE, predict, OBJECTIVES, {"memory": 170 * MIB})
    assert {params["method"]: params["training.gradient_checkpointing"] for params in plain} == {
        "bitfit": False,
        "full": True,
        "lora": False,
        "prompt_tuning": True,
    }


def test_what_cannot_be_lean_is_tried_as_it_is_and_what_cannot_be_attached_is_not() -> None:
    def refusing(candidate: Candidate) -> Costs:
        if candidate.name == "lora" or candidate.training.batch_size < 32:
            raise CannotAttach("no")
        return predict(candidate)

    kept = portfolio(SPACE, refusing, OBJECTIVES, {})
    assert {params["method"] for params in kept} == {"bitfit", "full", "prompt_tuning"}
    assert {params["training.batch_size"] for params in kept} == {32}


HAND = replace(
    SPACE,
    begins_with=(
        Beginning({"method": "lora", "lora.learning_rate": 1e-3}),
        Beginning({"method": "full"}, below=1e6),
        Beginning({"method": "adapter"}),
        Beginning({"method": "bitfit"}, least=1_000_000),
    ),
)


def test_what_a_space_begins_with_comes_in_its_order_where_it_is_meant_for_the_backbone() -> None:
    assert [params["method"] for params in by_hand(HAND, 999_999, predict, {})] == ["lora", "full"]
    lora, bitfit = by_hand(HAND, 1_000_000, predict, {})
    assert lora == {**default_params(SPACE, "lora"), "lora.learning_rate": 1e-3}
    assert bitfit == default_params(SPACE, "bitfit")
    assert by_hand(SPACE, 1, predict, {}) == ()


def test_what_a_space_begins_with_is_lean_only_where_it_breaks_a_limit_otherwise() -> None:
    whole, lean = (by_hand(HAND, 1, predict, {"memory": limit * MIB})[0] for limit in (10_000, 100))
    assert (whole["training.batch_size"], lean["training.batch_size"]) == (32, 16)
    assert {**lean, "training.batch_size": 32, "training.gradient_checkpointing": False} == whole
    assert [each["method"] for each in by_hand(HAND, 1, predict, {"trainable": 300_000})] == ["lora"]
    assert by_hand(HAND, 1, predict, {"trainable": 1}) == ()


def test_where_seconds_are_known_the_good_end_and_quick_ones_come_in_turn() -> None:
    usual = ("lora", "bitfit", "prompt_tuning", "top_layers", "adapter", "ia3", "norm_tuning", "vera", "krona")
    space = load_space("default").only(usual)

    def seconds(candidate: Candidate, costs: Costs) -> float:  # noqa: ARG001
        return candidate.training.epochs * sum(fraction(part.settings.get("layers", "all")) for part in candidate.parts)

    found = [space.draw(Recalled(params)) for params in portfolio(space, predict, OBJECTIVES, {}, seconds)]
    layers = [each.parts[0].settings.get("layers", "all") for each in found]
    assert [each == "all" for each in layers[:6]] == [True, False] * 3
    assert {each.name for each, of in zip(found, layers, strict=True) if of == "all"} == set(space.methods)
    assert len({str(each.to_dict()) for each in found}) == len(found)


def test_a_slow_method_does_not_begin_a_search() -> None:
    """Though it would serve most budgets best."""
    places = []
    for slow in (20.0, 200.0):
        found = portfolio(SPACE, predict, OBJECTIVES, {}, lambda each, _, of={"bitfit": slow}: of.get(each.name, 20.0))
        whole = [params["method"] for params in found if params.get(f"{params['method']}.layers", "all") == "all"]
        places.append(whole.index("bitfit"))
    assert places[0] == 0
    assert places[1] >= 2


def test_quick_ones_keep_limits_and_need_to_be_attachable() -> None:
    def refusing(candidate: Candidate) -> Costs:
        if fraction(candidate.parts[0].settings.get("layers", "all")) < 1:
            raise CannotAttach("no")
        return predict(candidate)

    quick = portfolio(SPACE, refusing, OBJECTIVES, {}, lambda *_: 1.0)
    assert all(params.get(f"{params['method']}.layers", "all") == "all" for params in quick)


def test_without_seconds_the_order_is_as_if_all_took_as_long() -> None:
    even = in_order(COSTS, OBJECTIVES, 8, seconds=[7.0] * len(COSTS))
    assert even == in_order(COSTS, OBJECTIVES, 8)
    slow = in_order(COSTS, OBJECTIVES, 8, seconds=[100.0 if name == "adapter" else 1.0 for name in NAMES])
    assert NAMES.index("adapter") not in slow[:4]
