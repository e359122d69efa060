import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.errors import AutopeftError
from autopeft.searching.samplers.parts.drawing import Drawn
from autopeft.space.candidate import OF_TASKS, Candidate, Training
from autopeft.space.parameters import Parameter, Recalled, label
from autopeft.space.space import load_space, named_spaces

SPACE = load_space("default")


class Randomly:
    """Draws at random, and remembers what it drew."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.drawn: dict[str, object] = {}
        self.parameters: dict[str, Parameter] = {}

    def draw(self, name, parameter):
        if parameter.values:
            value = self._random.choice(parameter.values)
        else:
            value = parameter.value_of(self._random.uniform(parameter.low, parameter.high))
        self.drawn[name] = label(value)
        self.parameters[name] = parameter
        return value


@pytest.mark.parametrize("name", named_spaces())
def test_every_shipped_space_can_be_read_and_draws_every_method_at_its_defaults(name):
    space = load_space(name)
    for kind in (*space.methods, *space.hybrids):
        candidate = space.defaults(kind)
        assert candidate.name == kind
        assert all(part.learning_rate > 0 for part in candidate.parts)


@given(seed=st.integers(0, 10_000))
def test_a_drawn_candidate_lies_in_its_space_and_is_drawn_again_from_its_draws(seed):
    draws = Randomly(seed)
    candidate = SPACE.draw(draws)
    for name, parameter in draws.parameters.items():
        assert parameter.holds(parameter.value_of(draws.drawn[name]))
    assert SPACE.draw(Recalled(draws.drawn)) == candidate
    assert Candidate.from_dict(candidate.to_dict()) == candidate


@given(seed=st.integers(0, 10_000))
def test_a_mixture_has_two_or_three_different_methods_in_one_order_only(seed):
    class Mixing(Randomly):
        def draw(self, name, parameter):
            value = super().draw(name, parameter)
            return "mixture" if name == "method" else value

    names = [part.method for part in SPACE.draw(Mixing(seed)).parts]
    assert 2 <= len(names) <= 3
    assert names == sorted(set(names), key=SPACE.methods.index)


def test_what_a_probe_refuses_is_never_drawn_and_the_reason_is_kept():
    def refusal(candidate):
        names = {part.method for part in candidate.parts}
        if "bitfit" in names:
            return "this backbone has no biases"
        return "they exclude each other" if names == {"lora", "adapter"} else None

    space = load_space("default").only(("lora", "adapter", "ia3", "bitfit", "mixture")).fitted(refusal)
    assert space.refused == {"bitfit": "this backbone has no biases"}
    for seed in range(200):
        names = {part.method for part in space.draw(Randomly(seed)).parts}
        assert "bitfit" not in names
        assert not {"lora", "adapter"} <= names


def test_a_space_in_which_nothing_can_be_attached_is_refused_with_a_reason():
    with pytest.raises(AutopeftError, match="no biases"):
        load_space("default").only(("bitfit",)).fitted(lambda _: "no biases")


def test_a_file_is_not_a_space_but_its_folder(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("methods: [lora]\n", encoding="utf-8")
    with pytest.raises(AutopeftError, match=r"is a file; .* the folder that holds its space\.yaml"):
        load_space(str(file))
    assert load_space(str(tmp_path)).methods == ("lora",)


def test_an_unknown_space_or_method_is_answered_with_the_nearest():
    with pytest.raises(AutopeftError, match="Did you mean 'default'"):
        load_space("defualt")
    with pytest.raises(AutopeftError, match="Did you mean 'lora'"):
        load_space("default").only(("lorra",))


def test_a_folder_of_own_cards_is_a_space(tmp_path):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "tiny_lora.yaml").write_text(
        "summary: LoRA of rank 1.\nfamily: reparameterised\npaper: none\nimplementation: peft.LoraConfig\n"
        "config: {r: $rank, target_modules: $sites}\n"
        "settings:\n  rank: 1\n  sites: {default: [q], values: [[q], [v]]}\n"
        "training:\n  learning_rate: {default: 1.0e-3, low: 1.0e-4, high: 1.0e-2, log: true}\n"
    )
    space = load_space(str(tmp_path))
    assert space.kinds() == ("tiny_lora",)
    assert dict(space.defaults("tiny_lora").parts[0].settings) == {"rank": 1, "sites": ("q",)}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("config: {rnk: $rank}", "config: peft.LoraConfig has no field 'rnk'"),
        ("config: {r: $rak}", "there is no setting 'rak'"),
        ("implementation: peft.LoraConfg", "cannot import 'peft.LoraConfg'"),
        ("implementation: autopeft.methods.adapter.Bottleneck", "is not a dataclass"),
        ("implementation: 5", "'implementation' must be a text, not 5"),
        ("summary: [x]", "'summary' must be a text, not ['x']"),
        ("config: [r]", "config: must hold one line per field, not ['r']"),
        ("family: magical", "family 'magical' is none of"),
        ("sumary: x", "there is no field 'sumary'"),
        ("training: {}", "'training' is missing"),
        ("training: {momentum: 0.9}", "'momentum' is none of"),
        ("settings: {rank: {default: 1, low: 2, high: 3}}", "the default 1 is not among"),
    ],
)
def test_a_wrong_card_is_refused_by_file_and_field(tmp_path, line, complaint):
    card = {
        "summary": "x",
        "family": "additive",
        "paper": "none",
        "implementation": "peft.LoraConfig",
        "config": "{r: $rank}",
        "settings": "{rank: 1}",
        "training": "{learning_rate: 0.001}",
    }
    field, _, value = line.partition(": ")
    card[field] = value
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.yaml").write_text("".join(f"{name}: {text}\n" for name, text in card.items()))
    with pytest.raises(AutopeftError, match=r"mine\.yaml") as caught:
        load_space(str(tmp_path))
    assert complaint in str(caught.value)


def test_what_a_head_has_not_is_not_drawn():
    space = load_space("default")
    without = space.having({"head_learning_rate": None})
    assert without.training.keys() == space.training.keys() - {"head_start"}
    assert without.draw(Drawn(np.random.default_rng(3))).training.head_start == Training.head_start
    assert space.having(dict.fromkeys(OF_TASKS)) == space
    assert space.having({}).training.keys() == space.training.keys() - {*OF_TASKS}


def test_a_setting_of_the_task_is_drawn_where_the_space_says_nothing_of_it():
    own = {"pooling": Parameter("first", ("first", "mean")), "head_start": Parameter("random")}
    space = load_space("default")
    assert space.having(own).training == {**space.having({"head_start": None}).training, "pooling": own["pooling"]}


@pytest.mark.parametrize("name", ["9" * 400, "a\0b", ""])
def test_a_name_that_can_be_no_path_is_an_unknown_space(name):
    with pytest.raises(AutopeftError):
        load_space(name)
