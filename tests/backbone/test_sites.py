"""Choosing layers and looking up places."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.backbone.sites import Place, Sites, layer_numbers
from autopeft.errors import AutopeftError, CannotAttach

SITES = Sites(
    "Toy",
    8,
    ("layers.0", "layers.1", "layers.2", "layers.3"),
    {
        "q": tuple(Place(f"layers.{number}.q", number) for number in range(4)),
        "norm": (Place("layers.0.norm", 0), Place("layers.3.norm", 3), Place("final", -1)),
        "embedding": (),
    },
)


@pytest.mark.parametrize(
    ("layers", "numbers"),
    [
        ("all", (0, 1, 2, 3)),
        ("first 1", (0,)),
        ("last 3", (1, 2, 3)),
        ("last 50%", (2, 3)),
        ("first 25%", (0,)),
        ("last 1%", (3,)),
        ("last 100%", (0, 1, 2, 3)),
        ("1 of 2", (1, 3)),
        ("3 of 4", (1, 2, 3)),
        ("2 of 3", (0, 2, 3)),
        ("9 of 9", (0, 1, 2, 3)),
        (2, (2,)),
        ([3, 0, 3], (0, 3)),
        ((1,), (1,)),
    ],
)
def test_layers_can_be_chosen_by_words_and_by_numbers(layers, numbers):
    assert layer_numbers(layers, 4) == numbers


@pytest.mark.parametrize(
    ("layers", "answer"),
    [
        ("ninth", "'ninth' names no layers; write 'all', 'first 6', 'last 3', 'last 50%', '3 of 4' or a list of num"),
        ("0 of 4", "'0 of 4' asks for 0 of every 4 layers; write such as '3 of 4'"),
        ("3 of 2", "'3 of 2' asks for 3 of every 2 layers"),
        ("last -1", "'last -1' names no layers"),
        (1.5, "1.5 names no layers"),
        ([], r"\[\] names no layers"),
        (["0"], r"\['0'\] names no layers"),
        (None, "None names no layers"),
        ("last 5", "'last 5' asks for 5 layers; this backbone has 4."),
        ("first 0", "'first 0' asks for 0 layers; this backbone has 4."),
        ("last 0%", "'last 0%' asks for 0 layers"),
        ("last 200%", "'last 200%' asks for 8 layers"),
        (4, "there is no layer 4; this backbone has layers 0 to 3."),
        ([0, -1], "there is no layer -1"),
    ],
)
def test_a_choice_that_means_no_layers_is_refused_with_what_would_be_right(layers, answer):
    with pytest.raises(AutopeftError, match=answer):
        layer_numbers(layers, 4)


@given(st.integers(1, 60), st.integers(1, 100), st.sampled_from(["first", "last"]))
def test_a_share_of_layers_is_at_least_one_and_lies_at_its_end(count, percent, end):
    numbers = layer_numbers(f"{end} {percent}%", count)
    assert len(numbers) == max(1, round(count * percent / 100))
    assert numbers == (tuple(range(count))[: len(numbers)] if end == "first" else tuple(range(count))[-len(numbers) :])


def test_places_come_in_the_order_of_layers_and_those_outside_layers_with_all_only():
    assert [place.path for place in SITES.at("q", "last 2")] == ["layers.2.q", "layers.3.q"]
    assert [place.path for place in SITES.at("norm")] == ["layers.0.norm", "layers.3.norm", "final"]
    assert [place.path for place in SITES.at("norm", "last 1")] == ["layers.3.norm"]


@pytest.mark.parametrize("site", ["v", "embedding"])
def test_a_site_that_is_not_there_is_answered_with_those_that_are(site):
    with pytest.raises(CannotAttach, match=f"Toy has no site '{site}'; it has norm, q."):
        SITES.at(site)


def test_linear_stands_for_all_projections_that_are_there() -> None:
    two = {name: tuple(Place(f"layers.{n}.{name}", n) for n in range(2)) for name in ("q", "ffn.up", "attention")}
    sites = Sites("Toy", 8, ("layers.0", "layers.1"), two)
    assert [place.path for place in sites.at("linear", "last 1")] == ["layers.1.q", "layers.1.ffn.up"]
    with pytest.raises(CannotAttach, match="has no site 'linear'"):
        Sites("Toy", 8, ("layers.0",), {"attention": two["attention"]}).at("linear")
