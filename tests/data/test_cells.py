import json
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.data.cells import list_in
from autopeft.errors import AutopeftError
from tests.watchdog import ended_after


@pytest.mark.parametrize(
    ("cell", "items"),
    [
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        (np.array(["a", "b"], dtype=object), ["a", "b"]),
        (np.array([0, 1]), [0, 1]),
        ('["a", "b"]', ["a", "b"]),
        (' ["a\\u00e9"]\n', ["aé"]),
        ("['a', 'b']", ["a", "b"]),
        ("('a',)", ["a"]),
        ("['it\\'s', \"it's\", 'a, b']", ["it's", "it's", "a, b"]),
        ("[0, 1.5, None, True]", [0, 1.5, None, True]),
        ("[{'start': 0, 'end': 5, 'label': 'PER'}]", [{"start": 0, "end": 5, "label": "PER"}]),
        ("[(0, 5, 'PER')]", [(0, 5, "PER")]),
        ("[]", []),
    ],
)
def test_a_list_is_read_as_it_is_written(cell, items):
    assert list_in(cell) == items


@pytest.mark.parametrize("items", [["a", "b"], ["it's", 'say "go"'], ["a"], ["x" * 50] * 10, [0, 1, 0]])
def test_what_numpy_writes_without_commas_is_not_joined(items):
    assert list_in(str(np.array(items))) == items


def test_lists_come_back_from_a_csv_that_pandas_wrote(tmp_path):
    lists = [["O", "B-PER"], ["it's"], []]
    for number, column in enumerate((lists, [np.array(each, dtype=object) for each in lists])):
        pd.DataFrame({"tags": column}).to_csv(tmp_path / f"{number}.csv")
        assert [list_in(cell) for cell in pd.read_csv(tmp_path / f"{number}.csv")["tags"]] == lists


@given(st.lists(st.text() | st.integers() | st.none() | st.lists(st.text(), max_size=2), max_size=4))
def test_what_python_and_json_write_is_read_equal(items):
    assert list_in(repr(items)) == items
    assert list_in(json.dumps(items)) == items


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, "None is no list"),
        (float("nan"), "nan is no list"),
        (7, "7 is no list"),
        ("a;b", "'a;b' is no list"),
        ('{"a": 1}', "is no list"),
        ("  ", "an empty cell is no list"),
        ("[a, b]", "'a' has no quotes"),
        ("['a' ... 'b']", "left out with dots"),
        ("[1] + [2]", "it goes on after its end"),
        ("['a'] ['b']", "it goes on after its end"),
        ("[__import__('os').getcwd()]", "has no quotes"),
        ("['a", "stands outside of quotes"),
        ("['\\d']", "is no list that can be read"),
        ("['a': 1]", "is no list that can be read"),
        ("[" * 100_000, "nested too deeply"),
        ("['a', " + "9" * 10_000 + "]", "a number of 10,000 characters"),
        (np.zeros((2, 2)), "is no list"),
    ],
)
def test_what_is_no_list_is_answered(cell, reason):
    with pytest.raises(AutopeftError) as caught:
        list_in(cell)
    assert reason in str(caught.value)
    assert 'such as ["a", "b"]' in str(caught.value)


@given(st.text(alphabet="[](){}'\"\\,:.-+0123456789abNone x\n…", max_size=40).map(lambda text: f"[{text}"))
def test_any_cell_is_read_or_answered(cell):
    with ended_after(20), suppress(AutopeftError):
        assert isinstance(list_in(cell), list)
