import numpy as np
import pandas as pd
import pytest

from autopeft.data.several import names_in, names_in_rows, readable_names
from autopeft.errors import AutopeftError
from autopeft.tasks.classes import name_of


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        (["b", "a", "b"], {"a", "b"}),
        (("a",), {"a"}),
        (np.array(["a", " c "], dtype=object), {"a", "c"}),
        ([], set()),
        (np.array([]), set()),
        ('["a", "b"]', {"a", "b"}),
        ("['a' 'b']", {"a", "b"}),
        ("[]", set()),
        ("a; b ;", {"a", "b"}),
        ("a, b", {"a, b"}),
        ("", set()),
        (" ; ", set()),
        ([1, 2.0, True], {"1", "2", "True"}),
        (3, {"3"}),
    ],
)
def test_names_are_read_of_lists_and_texts(cell, names):
    assert names_in([cell], ["labels"], name_of) == names
    assert readable_names([cell], ["labels"], name_of) == names


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (["a", None], "['a', None] holds None, which is no name."),
        ([["a"]], "[['a']] holds ['a'], which is no name."),
        ([{"start": 0}], "holds {'start': 0}, which is no name."),
        (["a", " "], "['a', ' '] holds ' ', which is no name."),
        ('["a"', "is no list that can be read"),
        ({"a": 1}, "{'a': 1} is no list"),
        (b"a", "b'a' is no list"),
        (None, "None is no list"),
    ],
)
def test_what_is_no_list_of_names_is_answered(cell, said):
    with pytest.raises(AutopeftError) as caught:
        names_in([cell], ["labels"], name_of)
    assert said in str(caught.value)
    assert readable_names([cell], ["labels"], name_of) is None


def test_a_column_for_each_name_holds_0_and_1():
    cells = ["1", 0, True, "FALSE", 1.0, "0.0", np.True_, np.int8(0)]
    assert names_in(cells, "abcdefgh", name_of) == {"a", "c", "e", "g"}


@pytest.mark.parametrize("cell", [2, "yes", "", None, -1, [1], float("nan")])
def test_another_number_than_0_and_1_is_answered(cell):
    with pytest.raises(AutopeftError, match=r"in column 'b' stands .*, neither 0 nor 1\."):
        names_in([1, cell], ["a", "b"], name_of)


def test_the_row_that_has_no_names_is_told():
    frame = pd.DataFrame({"labels": [["a"], [], None, ["b"], None], "more": [["a"], 3, "a;b", {}, "x"]}, dtype=object)
    with pytest.raises(AutopeftError, match=r"'labels' has no labels in 2 of 5 rows of the train split, .* is row 3;"):
        names_in_rows(frame, ["labels"], "train", name_of)
    with pytest.raises(AutopeftError, match=r"^row 4 of the test split has no labels that can be read: {} is no list"):
        names_in_rows(frame, ["more"], "test", name_of)
    assert names_in_rows(frame[:2], ["more"], "train", name_of) == [{"a"}, {"3"}]
