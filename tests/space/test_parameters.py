import pytest

from autopeft.errors import AutopeftError
from autopeft.space.parameters import Parameter, Recalled, label, read_parameter


def test_a_plain_value_is_a_fixed_parameter():
    parameter = read_parameter(0.06, "card.yaml: warmup")
    assert parameter == Parameter(0.06)
    assert not parameter.varies


def test_lists_become_tuples_and_are_drawn_as_text():
    parameter = read_parameter({"default": ["q", "v"], "values": [["q", "v"], ["k"]]}, "card")
    assert parameter.labels() == ("q,v", "k")
    assert parameter.value_of("q,v") == ("q", "v")


def test_a_range_of_whole_numbers_draws_whole_numbers():
    parameter = read_parameter({"default": 8, "low": 1, "high": 64, "log": True}, "card")
    assert parameter.whole
    assert parameter.value_of(13.0) == 13
    assert isinstance(parameter.value_of(13.0), int)


@pytest.mark.parametrize(
    ("plain", "complaint"),
    [
        ({"values": [1, 2]}, "a default is missing"),
        ({"default": 3, "values": [1, 2]}, "the default 3 is not among"),
        ({"default": 3, "low": 1}, "needs both low and high"),
        ({"default": 3, "low": 1, "high": 5, "values": [3]}, "not both"),
        ({"default": 3, "low": 5, "high": 1}, "is not a range"),
        ({"default": 0, "low": 0, "high": 1, "log": True}, "on a log scale"),
        ({"default": 1, "low": "1e-3", "high": 1}, "is not a number"),
        ({"default": 1, "lowest": 1}, "'lowest' is not a field"),
    ],
)
def test_a_wrong_parameter_is_refused_by_file_and_field(plain, complaint):
    with pytest.raises(AutopeftError, match=r"card\.yaml: settings: rank") as caught:
        read_parameter(plain, "card.yaml: settings: rank")
    assert complaint in str(caught.value)


def test_what_was_drawn_before_is_drawn_again_and_the_rest_is_default():
    parameter = Parameter(8, (4, 8, 16))
    assert Recalled({"lora.rank": 16}).draw("lora.rank", parameter) == 16
    assert Recalled({}).draw("lora.rank", parameter) == 8
    assert label(("q", "v")) == "q,v"
