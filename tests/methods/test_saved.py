"""What a saved method may say: what our own cards and a user's registered ones say, and nothing else; none of its
words reaches an import, a regular expression or a decoder of pickles.
"""

import json
import sys
from pathlib import Path

import pytest

import autopeft
from autopeft.errors import AutopeftError
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from autopeft.methods.saved import read_parts, trust
from autopeft.space.cards import load_cards
from tests.tiny import tiny

CARDS = load_cards()
LORA = method("lora").to_dict()
OWN = """
from dataclasses import dataclass
from autopeft.methods.adapter import Adapter

@dataclass(frozen=True)
class Mine(Adapter):
    twist: int = 3
"""
OWN_CARD = """
summary: An adapter of my own.
family: additive
paper: mine
implementation: {module}.Mine
settings: {{bottleneck: {{default: 4, values: [4, 8]}}, twist: 3}}
training: {{learning_rate: 1.0e-3}}
"""


def says(folder: Path, *parts: object) -> Path:
    """A folder whose method.json holds these parts."""
    folder.mkdir(exist_ok=True)
    (folder / "method.json").write_text(json.dumps({"parts": parts}))
    return folder


@pytest.mark.parametrize("name", CARDS)
def test_every_shipped_method_is_read_back_at_every_declared_value(name: str, tmp_path: Path) -> None:
    for setting, parameter in CARDS[name].settings.items():
        for value in (parameter.default, *parameter.values):
            chosen = method(name, **{setting: value})
            (again,) = read_parts(says(tmp_path, chosen.to_dict()))
            assert again == chosen
            assert again.method == chosen.method


def test_settings_beside_those_declared_are_read_back_too(tmp_path: Path) -> None:
    for chosen in (
        method("lora", rank=128, alpha=256, start="pissa_niter_16", layers=[0, 1]),
        method("lora", start="pissa", layers="first 1", sites=["k"]),
        method("adapter", layers=[0], scale=0.125),
        method("said", seed=2**31),
        method("prefix_tuning", hidden=800, layers="spindle 1 2"),
    ):
        assert read_parts(says(tmp_path, chosen.to_dict())) == (chosen,)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module that can be imported and holds a method of one's own."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def mine(module: str) -> dict[str, object]:
    return {"name": "mine", "implementation": f"{module}.Mine", "config": {}, "settings": {"bottleneck": 4, "twist": 5}}


def test_a_class_that_nobody_registered_is_not_even_imported(own: str, tmp_path: Path) -> None:
    with pytest.raises(AutopeftError) as caught:
        read_parts(says(tmp_path / "folder", mine(own)))
    assert own not in sys.modules
    assert f"'{own}.Mine' is no method of autopeft or peft: it is not run" in str(caught.value)
    assert f"from {own} import Mine; autopeft.register(Mine)" in str(caught.value)


def test_a_class_that_is_registered_is_loaded_with_its_values(own: str, tmp_path: Path) -> None:
    kind = autopeft.register(__import__(own).Mine)
    (part,) = read_parts(says(tmp_path / "folder", mine(own)))
    assert part.method == kind(bottleneck=4, twist=5)
    attached = attach(tiny("bert"), part)
    attached.save(tmp_path / "saved")
    assert attach_saved(tiny("bert"), tmp_path / "saved").count == attached.count


def test_a_folder_of_cards_that_is_registered_may_name_code_and_odd_settings(own: str, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.yaml").write_text(OWN_CARD.format(module=own))
    query = OWN_CARD.replace("{module}.Mine", "peft.LoraConfig\nconfig: {{r: $rank, target_modules: '.*query'}}")
    query = query.replace("bottleneck: {{default: 4, values: [4, 8]}}, twist", "rank")
    (tmp_path / "methods" / "query.yaml").write_text(query.format())
    lora = {**LORA, "name": "query", "config": {"r": "$rank", "target_modules": ".*query"}, "settings": {"rank": 3}}
    with pytest.raises(AutopeftError, match="target_modules must be"):
        read_parts(says(tmp_path / "folder", lora))
    autopeft.register(tmp_path)
    parts = read_parts(says(tmp_path / "folder", mine(own), lora))
    assert [part.name for part in parts] == ["mine", "query"]
    with pytest.raises(AutopeftError, match="twist must be a value such as 3, not 'x'"):
        read_parts(says(tmp_path / "folder", {**mine(own), "settings": {"twist": "x"}}))


def test_a_search_trusts_what_the_cards_of_its_space_name(own: str, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.yaml").write_text(OWN_CARD.format(module=own))
    trust(load_cards(tmp_path))
    assert read_parts(says(tmp_path / "folder", mine(own)))[0].name == "mine"


@pytest.mark.parametrize("what", [5, None, int, attach, "no such folder"])
def test_only_methods_and_folders_of_cards_are_registered(what: object) -> None:
    with pytest.raises(AutopeftError, match=r"is neither a method's dataclass nor a folder|is no folder of cards"):
        autopeft.register(what)


@pytest.mark.parametrize(
    "implementation",
    [
        "autopeft.plan.Plan",
        "autopeft.methods.registry.Configured",
        "autopeft.methods.hooked.Hooked",
        "subprocess.Popen",
        "peft.get_peft_model",
        "peft.PeftModel",
        "peft.tuners.lora.config.LoraConfig",
        "peft.nothing",
        "peft.",
        "",
        ".",
        "x" * 100_000,
        "a\x1b[2J.b",
        5,
        None,
        [],
        {},
    ],
    ids=lambda value: str(value)[:30],
)
def test_other_implementations_are_refused(implementation: object, tmp_path: Path) -> None:
    with pytest.raises(AutopeftError, match=r"method\.json"):
        read_parts(says(tmp_path, {**LORA, "implementation": implementation}))


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": "((a+)+)+$"},
        {"target_modules": ["query"]},
        {"target_modules": "all-linear"},
        {"exclude_modules": "(.*)*x"},
        {"layers_pattern": "(.*)*x"},
        {"rank_pattern": {"(.*)*x": 4}},
        {"modules_to_save": ["encoder"]},
        {"megatron_config": {"a": 1}, "megatron_core": "winner.payload"},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"auto_mapping": {"base_model_class": "X", "parent_library": "winner.payload"}},
        {"r": 10**9},
        {"r": "$nothing"},
        {"r": True},
        {"r": -1},
        {"lora_alpha": 1e400},
        {"no_such_field": 1},
        {"rank_pattern": {".*(q+)+": 4}},
        {"rank_pattern": {"q_proj": 10**9}},
        {"rank_pattern": {"q_proj": "8"}},
        {"rank_pattern": {f"layer.{number}": 4 for number in range(1000)}},
        {"use_bdlora": {"nblocks": 2}},
        {"megatron_config": {"q_proj": 4}},
        {"trainable_token_indices": [-1]},
        {"trainable_token_indices": [*range(1000)]},
        {"megatron_core": "$layers"},
        {"lora_dropout": "$layers"},
        {"megatron_core": "$sites"},
    ],
    ids=lambda config: str(config)[:60],
)
def test_a_configuration_of_peft_gets_no_free_text_no_mappings_and_no_huge_numbers(
    config: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(AutopeftError, match=r"method\.json'"):
        read_parts(says(tmp_path, {**LORA, "config": {**LORA["config"], **config}}))


def test_a_prompt_begins_from_no_text_that_a_tokenizer_must_read(tmp_path: Path) -> None:
    text = {
        "prompt_tuning_init": "TEXT",
        "prompt_tuning_init_text": "hello",
        "tokenizer_name_or_path": "stranger/model",
    }
    plain = method("prompt_tuning").to_dict()
    with pytest.raises(AutopeftError, match="prompt_tuning: prompt_tuning_init_text must be"):
        read_parts(says(tmp_path, {**plain, "config": {**plain["config"], **text}}))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("lora", "rank", 10**9),
        ("lora", "rank", "8"),
        ("lora", "rank", 8.5),
        ("lora", "rank", None),
        ("lora", "rank", [8]),
        ("lora", "start", "pissa_niter_1000000000"),
        ("lora", "sites", "q"),
        ("lora", "sites", [5]),
        ("lora", "sites", {"q": 1}),
        ("lora", "dropout", -0.1),
        ("lora", "dora", "yes"),
        ("adapter", "bottleneck", 10**7),
        ("adapter", "bottleneck", 0),
        ("adapter", "bottleneck", 10**4000),
        ("adapter", "placement", 5),
        ("adapter", "placement", "x" * 10_000),
        ("adapter", "activation", "subprocess.run"),
        ("adapter", "nothing", 1),
        ("adapter", "layers", [[0]]),
        ("adapter", "layers", list(range(1000))),
        ("fishmask", "keep", "all"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_settings_are_of_the_kind_that_their_card_declares(
    name: str, setting: str, value: object, tmp_path: Path
) -> None:
    plain = method(name).to_dict()
    says(tmp_path, {**plain, "settings": {**plain["settings"], setting: value}})
    with pytest.raises(AutopeftError) as caught:
        read_parts(tmp_path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "part",
    [
        None,
        5,
        [],
        {},
        {**LORA, "name": "../../etc"},
        {**LORA, "name": 5},
        {**LORA, "settings": []},
        {**LORA, "settings": 5},
        {**LORA, "config": []},
        {**LORA, "more": 1},
        {**method("adapter").to_dict(), "config": {"r": 8}},
    ],
    ids=str,
)
def test_what_is_no_method_is_refused(part: object, tmp_path: Path) -> None:
    with pytest.raises(AutopeftError, match=r"method\.json'"):
        read_parts(says(tmp_path, part))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "5",
        "null",
        "{}",
        '{"parts": 5}',
        '{"parts": []}',
        '{"parts": NaN}',
        '{"parts": ' + "9" * 5001 + "}",
        "[" * 100_000 + "]" * 100_000,
        '{"parts":' * 100_000,
        "\ufeff{}",
        '{"parts": "\\ud800"}',
    ],
    ids=lambda text: text[:20],
)
def test_a_file_that_is_no_list_of_methods_is_refused_by_bounded_work(text: str, tmp_path: Path) -> None:
    (tmp_path / "method.json").write_text(text, encoding="utf-8")
    with pytest.raises(AutopeftError) as caught:
        read_parts(tmp_path)
    assert "method.json" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_no_more_methods_are_attached_than_a_hybrid_has(tmp_path: Path) -> None:
    with pytest.raises(AutopeftError, match="100 methods at most, not 5,000"):
        read_parts(says(tmp_path, *[LORA] * 5000))


def test_weights_that_are_pickled_are_not_read(tmp_path: Path) -> None:
    attach(tiny("bert"), "lora").save(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(AutopeftError, match=r"adapter_model\.safetensors' cannot be read: it is missing"):
        attach_saved(tiny("bert"), tmp_path)
