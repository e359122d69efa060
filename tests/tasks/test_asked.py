"""One text gives one answer, many give many, and every other shape is refused by what the task expects."""

import numpy as np
import pandas as pd
import pytest

from autopeft.errors import AutopeftError
from autopeft.tasks.asked import rows_of

SINGLE, PAIR = ("review",), ("premise", "hypothesis")


@pytest.mark.parametrize(
    ("texts", "columns", "rows", "single"),
    [
        ("the film was good", SINGLE, [("the film was good",)], True),
        ("", SINGLE, [("",)], True),
        (("a", "b"), PAIR, [("a", "b")], True),
        ([], SINGLE, [], False),
        ([], PAIR, [], False),
        (["a"], SINGLE, [("a",)], False),
        (["a", ""], SINGLE, [("a",), ("",)], False),
        ([("a",), ["b"]], SINGLE, [("a",), ("b",)], False),
        ([("a", "b"), ["c", "d"]], PAIR, [("a", "b"), ("c", "d")], False),
        (np.array(["a", "b"]), SINGLE, [("a",), ("b",)], False),
        (np.array([["a", "b"]]), PAIR, [("a", "b")], False),
        (pd.Series(["a", "b"]), SINGLE, [("a",), ("b",)], False),
        (iter(["a", "b"]), SINGLE, [("a",), ("b",)], False),
        (zip(["a"], ["b"], strict=True), PAIR, [("a", "b")], False),
    ],
)
def test_texts_become_rows(texts: object, columns: tuple[str, ...], rows: list[tuple[str, ...]], single: bool) -> None:
    assert rows_of(texts, columns) == (rows, single)


@pytest.mark.parametrize(
    ("texts", "columns", "answer"),
    [
        (("a", "b"), SINGLE, r"trained on single texts such as 'a text' \(review\); this is \('a', 'b'\)\."),
        ("a", PAIR, r"trained on pairs of texts such as \('one', 'other'\) \(premise, hypothesis\); this is 'a'\."),
        (("a", "b", "c"), PAIR, r"this is \('a', 'b', 'c'\)"),
        ([("a", "b"), ("a", "b", "c")], PAIR, r"row 1 is \('a', 'b', 'c'\)"),
        ([("a", "b"), "c"], PAIR, "row 1 is 'c'"),
        (["a", "b"], PAIR, "row 0 is 'a'"),
        (["a", ("b", "c")], SINGLE, r"row 1 is \('b', 'c'\)"),
        (["a", None], SINGLE, "row 1 is None"),
        (["a", float("nan")], SINGLE, "row 1 is nan"),
        ([5], SINGLE, "row 0 is 5"),
        ([("a", None)], PAIR, r"row 0 is \('a', None\)"),
        ([b"a"], SINGLE, "row 0 is b'a'"),
        ((), PAIR, r"this is \(\)"),
        ([()], SINGLE, r"row 0 is \(\)"),
        (["good", "\ud800"], SINGLE, "row 1 is no text: .* holds half a character"),
        (None, SINGLE, "give single texts such as 'a text', or a list of such, not None"),
        (5, PAIR, r"give pairs of texts such as \('one', 'other'\), or a list of such, not 5"),
        (b"good", SINGLE, "not b'good'"),
        ({"review": "good"}, SINGLE, "not {'review': 'good'}"),
        ({"good"}, SINGLE, "not {'good'}"),
        (pd.DataFrame({"review": ["good"]}), SINGLE, "or a list of such, not "),
        (np.array(5), SINGLE, "or a list of such, not "),
    ],
)
def test_other_shapes_are_refused_with_the_row_and_what_is_expected(
    texts: object, columns: tuple[str, ...], answer: str
) -> None:
    with pytest.raises(AutopeftError, match=answer) as caught:
        rows_of(texts, columns)
    assert len(str(caught.value)) < 400


def test_a_huge_row_is_refused_in_a_short_sentence() -> None:
    with pytest.raises(AutopeftError) as caught:
        rows_of([["x" * 10**6] * 1000], SINGLE)
    assert len(str(caught.value)) < 300
