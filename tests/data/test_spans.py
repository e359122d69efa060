from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.data.spans import Span, spans_in, tagged, words
from autopeft.errors import AutopeftError
from autopeft.tasks.tags import located

PAIR = [Span(0, 5, "PER"), Span(13, 21, "LOC")]
TEXT = "Alice visits New York."


def complaint(text: str, *spans: Span) -> str:
    with pytest.raises(AutopeftError) as caught:
        tagged(text, spans)
    assert str(caught.value).endswith(".")
    return str(caught.value)


@pytest.mark.parametrize(
    "cell",
    [
        [{"start": 0, "end": 5, "label": "PER"}, {"start": 13, "end": 21, "label": "LOC"}],
        [{"start": 0, "end": 5, "entity_group": "PER"}, {"start": 13, "end": 21, "entity_group": "LOC"}],
        [{"start": 0, "end": 5, "type": "PER"}, {"start": 13.0, "end": np.int64(21), "type": "LOC"}],
        # Label Studio
        [
            {"start": 0, "end": 5, "text": "Alice", "labels": ["PER"]},
            {"value": {"start": 13, "end": 21, "text": "New York", "labels": ["LOC"]}},
        ],
        # doccano, old and new
        [[0, 5, "PER"], [13, 21, "LOC"]],
        [{"id": 1, "start_offset": 0, "end_offset": 5, "label": "PER"}, (13, 21, "LOC")],
        # from Parquet, and from a cell of a CSV
        np.array([{"start": 0, "end": 5, "label": "PER"}, {"start": 13, "end": 21, "label": "LOC"}], dtype=object),
        '[{"start": 0, "end": 5, "label": "PER"}, {"start": 13, "end": 21, "label": "LOC"}]',
        "[(0, 5, 'PER'), (13, 21, 'LOC'), (13, 21, 'LOC')]",
    ],
)
def test_spans_are_read_as_tools_write_them(cell):
    assert spans_in(cell) == PAIR


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, "None is no list"),
        ("PER", "'PER' is no list"),
        ([7], "7 is no list"),
        (["PER"], "'PER' is no span; one is written as"),
        ([[0, 5]], "[0, 5] is no span"),
        ([[0, 5, ""]], "is no span"),
        ([[0, "5", "PER"]], "is no span"),
        ([[True, 5, "PER"]], "is no span"),
        ([{"start": 0, "end": 5}], "is no span"),
        ([{"start": 0.5, "end": 5, "label": "PER"}], "is no span"),
        ([{"start": 0, "end": 5, "labels": []}], "is no span"),
        ([{"start": 0, "end": 5, "labels": [["PER"]]}], "is no span"),
        ("[" * 900 + "]" * 900, "is no span"),
        ([{"start": 0, "end": 5, "labels": ["PER", "LOC"]}], "a span has 2 types, ['PER', 'LOC']"),
    ],
)
def test_what_is_no_span_is_answered(cell, reason):
    with pytest.raises(AutopeftError) as caught:
        spans_in(cell)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \n\t\u200b\ufeff", ""),
        ("Alice's cat costs $5.", "Alice|'|s|cat|costs|$|5|."),
        ("COVID-19 snake_case B2B", "COVID|-|19|snake_case|B2B"),
        ("cafe\u0301 naïve", "cafe\u0301|naïve"),
        ("नमस्ते दुनिया", "नमस्ते|दुनिया"),
        ("می\u200cرود", "می\u200cرود"),
        ("東京へ行くTokyo", "東|京|へ|行|く|Tokyo"),
        ("สวัสดี", "ส|วั|ส|ดี"),
        ("한국어를 말한다", "한국어를|말한다"),
        ("❤\ufe0f👍", "❤\ufe0f|👍"),
    ],
)
def test_words_of_all_scripts(text, expected):
    assert [text[start:end] for start, end in words(text)] == [word for word in expected.split("|") if word]


def test_a_text_with_spans_becomes_words_with_tags():
    found = tagged(TEXT, [*reversed(PAIR)])
    assert found.tokens == ("Alice", "visits", "New", "York", ".")
    assert found.tags == ("B-PER", "O", "B-LOC", "I-LOC", "O")
    assert found.offsets == ((0, 5), (6, 12), (13, 16), (17, 21), (21, 22))
    assert (found.widened, found.lost) == (0, 0)


def test_spans_that_touch_are_two():
    assert tagged("東京大阪", [Span(0, 2, "LOC"), Span(2, 4, "LOC")]).tags == ("B-LOC", "I-LOC", "B-LOC", "I-LOC")


def test_blanks_around_a_span_do_not_count():
    found = tagged(TEXT, [Span(5, 13, "act")])
    assert found.tags == ("O", "B-act", "O", "O", "O")
    assert found.widened == 0


def test_a_span_that_ends_inside_a_word_takes_it_all_and_is_counted():
    found = tagged("The Obamas' Franco-German", [Span(4, 9, "PER"), Span(12, 17, "ORG")])
    assert found.tags == ("O", "B-PER", "O", "B-ORG", "O", "O")
    assert (found.widened, found.lost) == (2, 0)


def test_of_two_spans_in_one_word_the_first_keeps_it():
    found = tagged("FrancoGerman war", [Span(0, 6, "fr"), Span(6, 12, "de")])
    assert found.tags == ("B-fr", "O")
    assert (found.widened, found.lost) == (1, 1)


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        (Span(-1, 5, "PER"), "the span -1-5 'PER' lies outside of its text, which has 22 characters"),
        (Span(13, 23, "PER"), "the span 13-23 'PER' lies outside"),
        (Span(5, 5, "PER"), "the span 5-5 'PER' is empty"),
        (Span(5, 0, "PER"), "the span 5-0 'PER' is empty"),
        (Span(5, 6, "PER"), "the span 5-6 'PER' holds no word, but ' '"),
        (Span(0, 5, "PER", "Alicia"), "is said to mark 'Alicia', but there stands 'Alice'"),
        (Span(10**5000, 10**5001, "PER"), "lies outside of its text"),
    ],
)
def test_a_span_that_cannot_be_is_answered(span, reason):
    assert reason in complaint(TEXT, span)


def test_spans_that_overlap_are_answered():
    said = complaint(TEXT, Span(0, 12, "PER"), Span(6, 12, "act"))
    assert said == "the span 0-12 'PER' and the span 6-12 'act' overlap; a word has one tag: keep one of them."


def test_offsets_of_browsers_are_known_by_the_marked_text():
    found = tagged("👍👍 Alice\nB", [Span(5, 12, "PER", "Alice\\nB")])
    assert found.tags == ("O", "O", "B-PER", "I-PER")
    assert tagged("👍👍 Alice\nB", [Span(3, 8, "PER", "Alice")]).tags == ("O", "O", "B-PER", "O")


@given(st.text(max_size=30), st.data())
def test_spans_of_whole_words_come_back(text, data):
    offsets = words(text)
    assert all(text[start:end].strip() for start, end in offsets)
    assert all(one[1] <= other[0] for one, other in pairwise(offsets))
    kinds = data.draw(st.lists(st.sampled_from(("", "a", "b-c")), min_size=len(offsets), max_size=len(offsets)))
    spans = [Span(start, end, kind) for (start, end), kind in zip(offsets, kinds, strict=True) if kind]
    found = tagged(text, spans)
    assert (found.widened, found.lost) == (0, 0)
    assert [Span(each.start, each.end, each.type) for each in located(found.tags, found.offsets)] == spans


@given(st.text(max_size=12), st.lists(st.builds(Span, st.integers(-2, 14), st.integers(-2, 14), st.just("a"))))
def test_any_spans_are_understood_or_answered(text, spans):
    try:
        found = tagged(text, spans)
    except AutopeftError:
        return
    assert len(found.tags) == len(found.tokens) == len(found.offsets)
    assert len(located(found.tags, found.offsets)) == len(spans) - found.lost
