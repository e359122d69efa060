"""Whatever a configuration of peft's can say, by the fields' own names: in Python, in cards, and in saved methods."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import autopeft
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import Configured, configured, method
from autopeft.space.cards import load_cards
from tests.methods.by_hand import disturbed
from tests.tiny import batch, tiny

GIVEN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("deft", {"para": True}),
    *(("glora", {"config_A_B": kind, "config_C": "vector", "config_D_E": "vector"}) for kind in ("vector", "constant")),
    ("ia3", {"sites": ["k", "v", "ffn.up"], "feedforward_modules": "$sites[ffn.up]"}),
    ("miss", {"init_weights": "bat", "rank": 12}),
    ("miss", {"init_weights": "mini", "mini_r": 4}),
    ("osf", {"rank_pattern": {"q_proj": 4}}),
    ("lora", {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 2}}),
    ("lora", {"layers_to_transform": [1]}),
    ("lora", {"trainable_token_indices": [1, 2]}),
)


def outputs(attached: Any) -> torch.Tensor:
    with torch.no_grad():
        states: torch.Tensor = attached.model(**batch()).last_hidden_state
    return states


@pytest.mark.parametrize(("name", "given"), GIVEN, ids=[f"{name} {' '.join(given)}" for name, given in GIVEN])
def test_any_field_of_a_configuration_is_given_by_its_own_name_and_read_back(
    name: str, given: dict[str, Any], tmp_path: Path
) -> None:
    model = tiny("llama")
    before = {path: each.clone() for path, each in model.named_parameters()}
    attached = disturbed(attach(model, method(name, **given)))
    expected = outputs(attached)
    attached.save(tmp_path)
    attached.detach()
    assert all(each.equal(before[path]) for path, each in model.named_parameters())
    plain = attach(tiny("llama"), method(name, **{key: given[key] for key in given if key in ("rank", "sites")}))
    assert not torch.allclose(expected, outputs(plain))
    assert outputs(attach_saved(tiny("llama"), tmp_path)).equal(expected)


def test_a_nested_configuration_is_a_mapping() -> None:
    fields = {"target_modules_bd_a": ["q_proj"], "nblocks": 2, "match_strict": False}
    attached = attach(tiny("llama"), method("lora", use_bdlora=fields))
    assert attached.count < attach(tiny("llama"), method("lora")).count
    attached.detach()
    with pytest.raises(AutopeftError, match=r"^peft refuses LoraConfig: .*unexpected keyword argument 'blocks'"):
        method("lora", use_bdlora={"blocks": 2})


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"use_bdlra": True}, r"unknown setting of lora 'use_bdlra'\. Did you mean 'use_bdlora'\?"),
        ({"task_type": "CAUSAL_LM"}, "unknown setting of lora 'task_type'"),
        ({"inference_mode": True}, "unknown setting of lora 'inference_mode'"),
        ({"layers_pattern": "x"}, r"^peft refuses LoraConfig: When `layers_pattern` is specified"),
    ],
)
def test_a_wrong_name_or_value_is_answered_when_the_method_is_named(given: dict[str, Any], answer: str) -> None:
    with pytest.raises(AutopeftError, match=answer):
        method("lora", **given)


CARDS = {
    "tokens": "peft.TrainableTokensConfig\nconfig: {target_modules: $sites}\n"
    "settings: {token_indices: [1, 2, 3], sites: [embedding]}",
    "adaption_prompt": "peft.AdaptionPromptConfig\nconfig: {target_modules: self_attn}\n"
    "settings: {adapter_len: {default: 4, values: [4, 8]}, adapter_layers: 2}",
    "blocks": "peft.LoraConfig\nconfig: {target_modules: $sites, use_bdlora: {target_modules_bd_a: [q_proj], "
    "nblocks: 2, match_strict: false}}\nsettings: {r: 4, sites: [q, v]}",
}


def card(folder: Path, name: str, implementation: str) -> Configured:
    """A method of a card of one's own, at its defaults."""
    (folder / "methods").mkdir(parents=True, exist_ok=True)
    head = "summary: s\nfamily: additive\npaper: p\ntraining: {learning_rate: 1.0e-3}\nimplementation: "
    (folder / "methods" / f"{name}.yaml").write_text(head + implementation)
    return configured(load_cards(folder)[name], {})


@pytest.mark.parametrize("name", CARDS)
def test_a_setting_of_a_card_that_no_field_receives_is_a_field_itself(name: str, tmp_path: Path) -> None:
    model, own = tiny("llama"), card(tmp_path / "cards", name, CARDS[name])
    before = {path: each.clone() for path, each in model.named_parameters()}
    attached = disturbed(attach(model, own))
    expected = outputs(attached)
    attached.save(tmp_path / "saved")
    attached.detach()
    assert all(each.equal(before[path]) for path, each in model.named_parameters())
    autopeft.register(tmp_path / "cards")
    assert outputs(attach_saved(tiny("llama"), tmp_path / "saved")).equal(expected)


def test_a_setting_of_a_card_that_is_no_field_is_answered(tmp_path: Path) -> None:
    with pytest.raises(AutopeftError, match=r"wrong\.yaml: config: peft\.LoraConfig has no field 'use_bdlra'\. Did"):
        card(tmp_path, "wrong", "peft.LoraConfig\nconfig: {target_modules: $sites}\nsettings: {use_bdlra: 3, sites: q}")


def test_every_field_that_says_how_a_method_of_peft_is_made_may_be_given() -> None:
    assert {"use_bdlora", "megatron_core", "r"} < {*peft.LoraConfig.__dataclass_fields__}
    with pytest.raises(CannotAttach):
        attach(tiny("llama"), method("lora", target_modules=["nothing_like_it"]))
