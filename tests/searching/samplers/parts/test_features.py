"""What makes candidates near to each other."""

from dataclasses import replace

import pytest

from autopeft.searching.samplers.parts.features import GROUPS, Reference, describe, fraction
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.space.cards import load_cards

CARDS = load_cards()
LORA = Part("lora", {"rank": 8, "sites": ("q", "v"), "layers": "all"}, 2e-3)
BITFIT = Part("bitfit", {"layers": "all"}, 2e-3)


def apart(one: Candidate, other: Candidate) -> dict[str, float]:
    """Squared distances in the groups that differ."""
    pair = Reference([describe(one, CARDS)], GROUPS).distances([describe(other, CARDS)])[:, 0, 0]
    return {group: float(value) for group, value in zip(GROUPS, pair, strict=True) if value > 1e-9}


def of(*parts: Part, **training: object) -> Candidate:
    return Candidate("it", parts, Training(**training))  # type: ignore[arg-type]


def test_a_candidate_is_at_no_distance_from_itself() -> None:
    assert apart(of(LORA), of(LORA)) == {}


def test_gradient_checkpointing_changes_no_result() -> None:
    assert apart(of(LORA), of(LORA, gradient_checkpointing=True)) == {}


def test_two_methods_differ_in_form_by_one_and_a_mixture_lies_between_them() -> None:
    assert apart(of(LORA), of(BITFIT))["form"] == pytest.approx(1.0)
    assert apart(of(LORA), of(LORA, BITFIT))["form"] == pytest.approx(0.5)


def test_learning_rates_are_compared_relative_to_each_methods_default() -> None:
    full = Part("full", {}, 5e-5)
    assert "speed" not in apart(of(LORA), of(full))
    assert apart(of(LORA), of(replace(LORA, learning_rate=2e-2)))["speed"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("settings", "group"),
    [
        ({"rank": 16}, "settings"),
        ({"dora": True}, "settings"),
        ({"sites": ("q",)}, "place"),
        ({"layers": "last 25%"}, "place"),
    ],
)
def test_each_setting_counts_in_its_group(settings: dict[str, object], group: str) -> None:
    changed = replace(LORA, settings={**LORA.settings, **settings})  # type: ignore[dict-item]
    assert list(apart(of(LORA), of(changed))) == [group]


def test_layers_are_read_as_a_fraction() -> None:
    assert [fraction(layers) for layers in ("all", "last 50%", "last 25%")] == [1.0, 0.5, 0.25]
