import numpy as np
import pandas as pd
import pytest

from autopeft.errors import AutopeftError
from autopeft.tasks.sentences import Sentence, asked_of, readable, sentences, words_of


def read(words: object, tags: object) -> Sentence:
    (found,) = sentences(pd.DataFrame({"tokens": [words], "tags": [tags]}, dtype=object), "tokens", "tags", "train")
    return found


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        (["in", "Oslo"], ["O", "B-LOC"]),
        (np.array(["in", "Oslo"], dtype=object), np.array(["O", "B-LOC"], dtype=object)),
        ('["in", "Oslo"]', "['O', 'B-LOC']"),
        ("['in' 'Oslo']", "('O', 'B-LOC')"),
        ("in Oslo", [{"start": 3, "end": 7, "label": "LOC"}]),
        ("in Oslo", '[[3, 7, "LOC"]]'),
    ],
)
def test_words_and_tags_are_read_however_they_are_written(words, tags):
    assert read(words, tags) == (("in", "Oslo"), ("O", "B-LOC"), 0, 0)


def test_tags_may_be_numbers_and_a_text_may_have_no_spans():
    assert read(["in", "Oslo"], [0, 3.0]).tags == ("0", "3")
    assert read("[sic] in Oslo", []).tags == ("O",) * 5
    assert read("in Oslo", [[4, 6, "LOC"]]) == (("in", "Oslo"), ("O", "B-LOC"), 1, 0)


@pytest.mark.parametrize(
    ("words", "tags", "said"),
    [
        (["a", "b", "c"], ["O", "O"], "3 tokens have 2 tags; each has one."),
        ([], [], "it has no tokens; leave it out."),
        ("", [], "it has no tokens; leave it out."),
        (["a", 7], ["O", "O"], "the token 7 is no text; write it in quotes."),
        (["a", None], ["O", "O"], "the token None is no text; write it in quotes."),
        (["a", "b"], ["O", None], "the tag None is no name."),
        (["a", "b"], ["O", " "], "the tag ' ' is no name."),
        ("a b", ["O", "O"], '\'a b\' is no list; a list is written as JSON, such as ["a", "b"].'),
        ("a b", [[0, 9, "X"]], "the span 0-9 'X' lies outside of its text, which has 3 characters."),
        (["a"], None, 'None is no list; a list is written as JSON, such as ["a", "b"].'),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_what_is_wrong(words, tags, said):
    frame = pd.DataFrame({"tokens": [["a"], words], "tags": [["O"], tags]}, dtype=object)
    with pytest.raises(AutopeftError) as caught:
        sentences(frame, "tokens", "tags", "test")
    assert str(caught.value) == f"row 2 of the test split: {said}"
    assert list(readable(frame, "tokens", "tags")) == [(("a",), ("O",), 0, 0), None]


@pytest.mark.parametrize(
    ("given", "asked", "single"),
    [
        ("in Oslo", ["in Oslo"], True),
        (("in", "Oslo"), [("in", "Oslo")], True),
        (["in Oslo", "Bergen"], ["in Oslo", "Bergen"], False),
        (["Bergen"], ["Bergen"], False),
        ([["in", "Oslo"], "in Oslo"], [("in", "Oslo"), "in Oslo"], False),
        ([("in", "Oslo")], [("in", "Oslo")], False),
        (np.array(["Oslo", "Bergen"]), ["Oslo", "Bergen"], False),
        (pd.Series(["Oslo", "Bergen"]), ["Oslo", "Bergen"], False),
        ([], [], False),
        ("", [""], True),
    ],
)
def test_a_string_is_a_text_and_a_tuple_its_words(given, asked, single):
    assert asked_of(given) == (asked, single)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["in", "Oslo"], "may be one text or many: give the words of one text as a tuple"),
        (7, "give a text, a tuple of its words, or a list of such, not 7."),
        ([["in"], 7], "row 1 is neither a text nor a list of its words, but 7."),
        ([["in", 7]], "the token 7 is no text"),
        ([[]], "row 0 is a text of no words."),
        ((), "this is a text of no words."),
    ],
)
def test_what_is_unclear_is_refused(given, said):
    with pytest.raises(AutopeftError) as caught:
        asked_of(given)
    assert said in str(caught.value)


def test_a_text_is_cut_as_those_with_spans_are():
    assert words_of("it's Oslo.") == ["it", "'", "s", "Oslo", "."]
    assert words_of(("it's", "Oslo.")) == ("it's", "Oslo.")
    assert words_of("") == []
