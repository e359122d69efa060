"""A space may say settings otherwise than cards do, and what a search begins with."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from autopeft.errors import AutopeftError
from autopeft.searching.portfolio import by_hand
from autopeft.space.space import Space, load_space
from autopeft.trial import Costs

LANGUAGE = load_space("language")


def space_of(folder: Path, **fields: Any) -> Space:
    (folder / "space.yaml").write_text(yaml.safe_dump({"methods": ["lora", "bitfit"], **fields}), encoding="utf-8")
    return load_space(str(folder))


def test_settings_of_a_space_stand_in_the_place_of_those_of_cards(tmp_path: Path) -> None:
    of_lora = {"rank": {"default": 2, "values": [2, 3]}, "learning_rate": 1e-4, "weight_decay": 0.5}
    space, cards = space_of(tmp_path, settings={"lora": of_lora}), load_space("default").cards
    part, *_ = space.defaults("lora").parts
    assert (part.settings["rank"], part.learning_rate, part.weight_decay) == (2, 1e-4, 0.5)
    assert {**part.settings, "rank": 8} == {name: each.default for name, each in cards["lora"].settings.items()}
    assert space.cards["bitfit"] == cards["bitfit"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"settings": [1]}, "settings: give settings by method"),
        ({"settings": {"lorra": {}}}, "settings: unknown card: 'lorra'. Did you mean 'lora'?"),
        ({"settings": {"lora": {"rnk": 3}}}, "settings: lora: unknown setting 'rnk'. Did you mean 'rank'?"),
        ({"settings": {"lora": {"rank": {"default": 1, "values": [2]}}}}, "settings: lora: rank: the default 1 is not"),
        ({"training": {"schedule": "cosin"}}, "training: unknown schedule 'cosin'. Did you mean 'cosine'?"),
        ({"begin_with": {"method": "lora"}}, "begin_with: give a list of methods"),
        ({"begin_with": ["lora"]}, "begin_with: entry 1: 'lora' is no entry; write such as {method: lora}."),
        ({"begin_with": [{"method": "adapter"}]}, "entry 1: unknown method of this space 'adapter'."),
        (
            {"begin_with": [{"method": "lora"}, {"method": "lora", "lora.rnk": 3}]},
            "entry 2: unknown setting 'lora.rnk'",
        ),
        ({"begin_with": [{"method": "lora", "lora.rank": 3}]}, "entry 1: lora.rank cannot be 3; it may be 1, 2, 4"),
        (
            {"begin_with": [{"method": "lora", "lora.learning_rate": 3}]},
            "lora.learning_rate cannot be 3; it may be 0.0002",
        ),
        ({"begin_with": [{"method": "lora", "lora.learning_rate": True}]}, "lora.learning_rate cannot be True"),
        ({"begin_with": [{"method": "lora", "from": "many"}]}, "entry 1: 'many' is not a number"),
    ],
)
def test_a_slip_in_a_space_is_answered_by_file_and_field(tmp_path: Path, fields: Any, said: str) -> None:
    with pytest.raises(AutopeftError) as raised:
        space_of(tmp_path, **fields)
    assert str(tmp_path / "space.yaml") in str(raised.value)
    assert said.replace("unknown card:", "unknown card") in str(raised.value)


def test_the_space_for_language_models_begins_with_what_guides_take() -> None:
    begun = {size: by_hand(LANGUAGE, size, lambda _: Costs(1, 1, 1, 1), {}) for size in (135_000_000, 8_000_000_000)}
    rates = {
        size: [each["lora.learning_rate"] for each in draws if each["method"] == "lora"]
        for size, draws in begun.items()
    }
    assert 2e-3 in rates[135_000_000]
    assert max(rates[8_000_000_000]) == 1e-3
    assert all({2e-4, 1e-3} <= {*each} for each in rates.values())
    assert {"ia3", "prefix_tuning", "norm_tuning"} <= {each["method"] for each in begun[8_000_000_000]}


def test_lora_goes_on_every_linear_map_of_a_language_model() -> None:
    assert LANGUAGE.defaults("lora").parts[0].settings["sites"] == ("all-linear",)
