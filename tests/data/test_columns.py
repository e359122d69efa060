import time

import pandas as pd
import pytest

from autopeft.data.columns import guess_columns
from autopeft.errors import AutopeftError
from autopeft.tasks.text_classification import TextClassification

TEXTS = [f"{said} {number}" for number in range(3) for said in ("a stirring film", "a dull film", "a mess", "much fun")]
CLASSES = ["good", "bad", "bad", "good"] * 3


def columns(text: tuple[str, ...] = (), label: str | None = None) -> dict[str, tuple[str, ...]]:
    return ({"label": (label,)} if label is not None else {}) | ({"text": text} if text else {})


def guessed(frame: pd.DataFrame, text: tuple[str, ...] = (), label: str | None = None) -> dict[str, tuple[str, ...]]:
    return guess_columns(frame, TextClassification.roles, columns(text, label))


def table(**columns: list) -> pd.DataFrame:
    return pd.DataFrame(columns, dtype=object)


@pytest.mark.parametrize(
    ("names", "text", "label"),
    [
        (("sentence", "label"), ("sentence",), "label"),
        (("Text", "Intent"), ("Text",), "Intent"),
        (("headline", "section"), ("headline",), "section"),
        (("premise", "hypothesis", "label"), ("premise", "hypothesis"), "label"),
        (("sentence1", "sentence2", "label"), ("sentence1", "sentence2"), "label"),
        (("question", "sentence", "label"), ("question", "sentence"), "label"),
        (("label", "text", "category"), ("text",), "label"),
    ],
)
def test_columns_are_guessed_from_usual_names(names, text, label):
    values = {name: CLASSES if name.lower() in ("label", "intent", "section", "category") else TEXTS for name in names}
    assert guessed(table(**values)) == columns(text, label)


def test_columns_with_unusual_names_are_guessed_from_their_content():
    frame = table(id=list(range(12)), name=list("abcdefghijkl"), worte=TEXTS, urteil=CLASSES)
    assert guessed(frame) == columns(("worte",), "urteil")


def test_numbers_may_be_labels():
    assert guessed(table(worte=TEXTS, stars=[1, 2, 3, 4] * 3)) == columns(("worte",), "stars")


def test_columns_that_are_given_are_taken():
    frame = table(text=TEXTS, summary=TEXTS[::-1], label=CLASSES, other=CLASSES)
    assert guessed(frame, ("summary", "text"), "other") == columns(("summary", "text"), "other")
    assert guessed(frame, ("summary",)) == columns(("summary",), "label")
    assert guessed(frame, label="other") == columns(("text",), "other")


def test_of_names_that_differ_in_case_only_the_first_is_guessed():
    assert guessed(table(Text=TEXTS, text=TEXTS, label=CLASSES))["text"] == ("Text",)


def test_a_usual_name_of_a_label_may_be_a_text():
    frame = table(topic=TEXTS, urteil=CLASSES)
    assert guessed(frame, ("topic",)) == columns(("topic",), "urteil")


@pytest.mark.parametrize("nameless", ["", "Unnamed: 0", "Unnamed: 0.1", "...1", "__index_level_0__", "_c0"])
def test_a_column_without_a_name_is_never_guessed(nameless):
    frame = table(**{nameless: CLASSES, "worte": TEXTS, "urteil": CLASSES})
    assert guessed(frame) == columns(("worte",), "urteil")
    frame = table(**{nameless: TEXTS, "worte": TEXTS, "urteil": CLASSES})
    assert guessed(frame) == columns(("worte",), "urteil")
    with pytest.raises(AutopeftError, match=r"cannot tell which column is the label; give --label, one of worte\."):
        guessed(table(**{nameless: CLASSES, "worte": TEXTS}))
    with pytest.raises(AutopeftError, match=r"cannot tell which column is the text; give --text, one or two of none\."):
        guessed(table(**{nameless: TEXTS, "urteil": CLASSES}))
    assert guessed(frame, (nameless,), "urteil") == columns((nameless,), "urteil")


def test_many_columns_take_no_time():
    names = [str(number) for number in range(40_000)]
    frame = pd.DataFrame([["a film", "good", *names]] * 2, columns=["text", "label", *names], dtype=object)
    started = time.monotonic()
    assert guessed(frame) == columns(("text",), "label")
    assert time.monotonic() - started < 5


def test_a_missing_cell_is_no_reason_not_to_guess_a_text():
    frame = table(worte=[None, float("nan"), *TEXTS[2:]], urteil=CLASSES)
    assert guessed(frame)["text"] == ("worte",)


@pytest.mark.parametrize(
    ("held", "given", "said"),
    [
        ({"text": TEXTS, "label": CLASSES}, {"label": "lable"}, "unknown column 'lable'. Did you mean 'label'?"),
        ({"text": TEXTS, "label": CLASSES}, {"text": ("TEXT",)}, "unknown column 'TEXT'. Did you mean 'text'?"),
        (
            {"text": TEXTS, "label": CLASSES},
            {"text": ("label",), "label": "label"},
            "'label' cannot be both a text and",
        ),
        (
            {"text": TEXTS, "a": CLASSES, "b": CLASSES},
            {},
            "which column is the label; give --label, one of text, a, b.",
        ),
        ({"text": TEXTS}, {"text": ("text",)}, "which column is the label; give --label, one of none."),
        ({"a": TEXTS, "b": TEXTS[::-1], "label": CLASSES}, {}, "is the text; give --text, one or two of a, b."),
        (
            {"id": [1, 2] * 6, "label": CLASSES},
            {},
            "cannot tell which column is the text; give --text, one or two of id.",
        ),
        ({"text": list(range(12)), "label": CLASSES}, {}, "column 'text' holds no text, but values such as 0."),
        ({"text": ["1", "2"] * 6, "label": CLASSES}, {}, "column 'text' holds no text, but values such as '1'."),
        ({"text": [""] * 12, "label": CLASSES}, {}, "column 'text' holds no text, but values such as ''."),
    ],
)
def test_columns_that_cannot_be_are_answered(held, given, said):
    with pytest.raises(AutopeftError) as caught:
        guessed(table(**held), **given)
    assert said in str(caught.value)


def test_a_column_that_is_there_twice_matters_only_when_it_is_used():
    rows = [(text, "?", "?", name) for text, name in zip(TEXTS, CLASSES, strict=True)]
    assert guessed(pd.DataFrame(rows, columns=["text", "x", "x", "label"])) == columns(("text",), "label")
    with pytest.raises(AutopeftError, match="there are 2 columns 'text'; rename all but one"):
        guessed(pd.DataFrame(rows, columns=["text", "text", "x", "label"]))
