"""From a name to a method; and the sentence for every slip."""

import pytest

from autopeft.errors import AutopeftError
from autopeft.methods.base import Method
from autopeft.methods.registry import Configured, Hybrid, configured, method
from autopeft.space.cards import load_cards, load_hybrids
from autopeft.space.parameters import Parameter

CARDS = load_cards()
HYBRIDS = load_hybrids(CARDS)
DECLARED = [
    (name, setting, value)
    for name, card in CARDS.items()
    for setting, parameter in card.settings.items()
    for value in (parameter.default, *parameter.values)
]


@pytest.mark.parametrize("name", CARDS)
def test_a_method_by_its_name_has_the_defaults_of_its_card(name):
    chosen = method(name)
    assert isinstance(chosen, Configured)
    assert isinstance(chosen.method, Method)
    assert chosen.settings == {setting: parameter.default for setting, parameter in CARDS[name].settings.items()}


@pytest.mark.parametrize(("name", "setting", "value"), DECLARED, ids=str)
def test_every_declared_value_is_accepted(name, setting, value):
    assert method(name, **{setting: value}).settings[setting] == value


def test_lists_are_frozen_and_other_settings_keep_their_defaults():
    chosen = method("lora", sites=["q", "ffn.down"], layers=[0, 1])
    assert (chosen.settings["sites"], chosen.settings["layers"]) == (("q", "ffn.down"), (0, 1))
    assert chosen.settings["rank"] == CARDS["lora"].settings["rank"].default


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_hybrid_has_the_settings_of_its_card_before_those_of_its_parts(name):
    chosen = method(name)
    assert isinstance(chosen, Hybrid)
    for part, declared in zip(chosen.parts, HYBRIDS[name].parts, strict=True):
        assert part.name == declared.method
        for setting, parameter in declared.settings.items():
            assert part.settings[setting] == parameter.default


def test_parts_of_a_hybrid_are_set_by_their_names():
    lora, adapter = method("lora_parallel", lora={"rank": 4}, adapter={"bottleneck": 32}).parts
    assert (lora.settings["rank"], adapter.settings["bottleneck"]) == (4, 32)
    assert adapter.settings["placement"] == "parallel"


@pytest.mark.parametrize(
    ("name", "settings", "answer"),
    [
        ("lorra", {}, "unknown method 'lorra'. Did you mean 'lora'? Known: "),
        ("xyzzy", {}, "unknown method 'xyzzy'. Known: "),
        ("lora", {"rnk": 4}, "unknown setting of lora 'rnk'. Did you mean 'rank'? Known: alpha, "),
        ("lora", {"rank": 0}, "rank of lora must be above 0, not 0."),
        ("lora", {"rank": -8}, "rank of lora must be above 0, not -8."),
        ("lora", {"rank": "8"}, "rank of lora must be a whole number such as 8, not '8'."),
        ("lora", {"rank": 8.0}, "rank of lora must be a whole number such as 8, not 8.0."),
        ("lora", {"rank": True}, "rank of lora must be a whole number such as 8, not True."),
        ("lora", {"rank": None}, "rank of lora must be a whole number such as 8, not None."),
        ("lora", {"alpha": "high"}, "alpha of lora must be a whole number such as 16, not 'high'."),
        ("lora", {"dropout": -0.1}, "dropout of lora must not be below 0, not -0.1."),
        ("lora", {"dropout": "0.1"}, "dropout of lora must be a number such as 0.0, not '0.1'."),
        ("lora", {"sites": "q"}, "sites of lora must be a list such as ['q', 'v'], not 'q'."),
        ("lora", {"sites": []}, "sites of lora must be a list such as ['q', 'v'], not ()."),
        ("ia3", {"sites": "k,v"}, "sites of ia3 must be a list such as ['k', 'v', 'ffn.down'], not 'k,v'."),
        ("adapter", {"bottleneck": 0}, "bottleneck of adapter must be above 0, not 0."),
        ("adapter", {"bottleneck": 2.5}, "bottleneck of adapter must be a whole number such as 64, not 2.5."),
        ("adapter", {"placement": "pfeifer"}, "unknown adapter placement 'pfeifer'. Did you mean 'pfeiffer'?"),
        ("adapter", {"activation": "gelo"}, "unknown activation 'gelo'. Did you mean 'gelu'?"),
        ("adapter", {"scale": "a lot"}, "scale of adapter must be a number such as 1.0, not 'a lot'."),
        ("prompt_tuning", {"length": -1}, "length of prompt_tuning must be above 0, not -1."),
        ("lora_parallel", {"ia3": {}}, "unknown part of lora_parallel 'ia3'."),
        (
            "lora_parallel",
            {"lora": 4},
            "settings of lora in lora_parallel must be a mapping such as {'rank': 4}, not 4.",
        ),
        ("lora_parallel", {"lora": {"rank": 0}}, "rank of lora must be above 0, not 0."),
    ],
)
def test_a_slip_is_answered_with_what_would_be_right(name, settings, answer):
    with pytest.raises(AutopeftError) as caught:
        method(name, **settings)
    assert str(caught.value).startswith(answer)


def test_a_setting_that_is_true_or_false_takes_nothing_else():
    card = CARDS["lora"]
    switched = type(card)(**{**vars(card), "settings": {**card.settings, "rank": Parameter(False, (False, True))}})
    assert configured(switched, {"rank": True}).settings["rank"] is True
    with pytest.raises(AutopeftError, match="rank of lora must be true or false, not 1"):
        configured(switched, {"rank": 1})
